const colours = { bold: "1", dim: "2", green: "32", red: "31", cyan: "36" } as const;

/** Longest line written, so that an ordinary terminal need not wrap it. */
const columns = 96;

/** What the demo says: plain lines, with colours and a counter that moves only on a terminal. */
export class Screen {
  readonly #terminal = process.stdout.isTTY === true;
  readonly #coloured = this.#terminal && process.env.NO_COLOR === undefined;
  #scene = 0;
  #counterShown = false;

  /** Heading of the next part of the story, numbered. */
  scene(title: string): void {
    this.#scene += 1;
    this.#write(`\n${this.paint("bold", `${this.#scene}. ${title}`)}`);
  }

  line(text = ""): void {
    this.#write(text === "" ? "" : wrapped(text, "   "));
  }

  /** Exactly as given, without indentation or wrapping: for what is to be copied, and for the last line. */
  raw(text: string): void {
    this.#write(text);
  }

  check(held: boolean, text: string): void {
    const mark = held ? this.paint("green", "ok  ") : this.paint("red", "FAIL");
    this.#write(`     ${mark} ${wrapped(text, "          ").trimStart()}`);
  }

  /** A line that the next one replaces; nothing where lines cannot be replaced. */
  counter(text: string): void {
    if (!this.#terminal) return;
    process.stdout.write(`\r\x1b[2K   ${this.paint("cyan", text)}`);
    this.#counterShown = true;
  }

  paint(colour: keyof typeof colours, text: string): string {
    return this.#coloured ? `\x1b[${colours[colour]}m${text}\x1b[0m` : text;
  }

  #write(text: string): void {
    if (this.#counterShown) process.stdout.write("\r\x1b[2K");
    this.#counterShown = false;
    process.stdout.write(`${text}\n`);
  }
}

function wrapped(text: string, indentation: string): string {
  const lines = [""];
  for (const word of text.split(/(?<=\S)(?=\s)/)) {
    const last = lines.at(-1) ?? "";
    if (last !== "" && indentation.length + last.length + word.length > columns) lines.push(word.trimStart());
    else lines[lines.length - 1] = last + word;
  }
  return lines.map((line) => indentation + line).join("\n");
}
