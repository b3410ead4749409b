export interface Batches {
  /** Resolves or rejects with its batch: one promise for all of it, so that its answers leave in one turn. */
  add(record: string): Promise<void>;
  /** Resolves when all that was added is settled. */
  idle(): Promise<void>;
}

interface Batch {
  readonly records: string[];
  readonly promise: Promise<void>;
  resolve(): void;
  reject(error: unknown): void;
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Gathers records while `write` is busy with those before; never two writes at once. */
export function batches(write: (records: readonly string[]) => Promise<void>): Batches {
  let gathering: Batch | undefined;
  let draining: Promise<void> | undefined;

  async function drain(): Promise<void> {
    await nextTurn(); // whatever this turn of the event loop brings goes along
    while (gathering) {
      const batch = gathering;
      gathering = undefined;
      try {
        await write(batch.records);
        batch.resolve();
      } catch (error) {
        batch.reject(error);
      }
      await nextTurn();
    }
    draining = undefined;
  }

  return {
    add(record) {
      gathering ??= { records: [], ...Promise.withResolvers<void>() };
      gathering.records.push(record);
      draining ??= drain();
      return gathering.promise;
    },
    idle: async () => draining,
  };
}
