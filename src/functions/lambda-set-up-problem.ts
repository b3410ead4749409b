/** A function of ours was not set up as it must be. `message` says what to do. */
export class SetUpProblem extends Error {
  override readonly name: "MissingKeySet" | "UnreadableKeySet" | "MissingFarKeys" | "UnreadableFarKeys";

  constructor(name: SetUpProblem["name"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = name;
  }
}

/** @throws SetUpProblem `name` when a variable's value is not JSON */
export function readJsonVariable(variable: string, text: string, name: SetUpProblem["name"]): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new SetUpProblem(name, `The function's variable ${variable} is not JSON: set it again from what Rekey printed.`);
  }
}
