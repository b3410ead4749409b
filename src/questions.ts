/** Questions to another process over a channel that only carries messages: each has a number, and its answer names it. */
export class Questions {
  readonly #open = new Map<number, (answer: string | undefined) => void>();
  #last = 0;

  /** Undefined when no answer comes within `longestMs`. */
  async ask(send: (id: number) => void, longestMs: number): Promise<string | undefined> {
    const id = ++this.#last;
    const answered = Promise.withResolvers<string | undefined>();
    const late = setTimeout(() => answered.resolve(undefined), longestMs);
    this.#open.set(id, answered.resolve);
    try {
      send(id);
      return await answered.promise;
    } finally {
      clearTimeout(late);
      this.#open.delete(id);
    }
  }

  answer(id: number, text: string): void {
    this.#open.get(id)?.(text);
  }
}
