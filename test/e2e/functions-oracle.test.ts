// What is cut out of a function's log must not tell values to somebody who may not read them: the log would answer guesses.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { allow, native, newName, newUser } from "../support/aws.ts";
import { functionWorld } from "../support/function-world.ts";

type World = Awaited<ReturnType<typeof functionWorld>>;

const value = "correct-horse-battery";

/** Repeats what it is told, and what its maker wrote into it. */
const echo = `
export async function handler({ text = "guess: ${value}" }) {
  console.log(text);
  throw new Error(text);
}
`;

describe("logs of functions as an oracle", () => {
  let world: World;
  let victim: { SecretId: string; ARN: string };
  before(async () => {
    world = await functionWorld();
    world.write("echo.mjs", echo);
    victim = await world.newSecret({ username: "app", password: value });
  });
  after(() => world[Symbol.asyncDispose]());

  it("a caller who names a secret in the payload learns nothing of it", async () => {
    const { name } = await world.create({ file: "echo.mjs" });
    const userName = newName("user");
    await newUser(world.server, userName, allow("lambda:InvokeFunction", "rekey:GetFunctionLogs"));
    const { token } = await world.ask("tokens/create", { userName, name: "test" });
    const as = async (path: string, members: object) =>
      (await native(world.server, path, members, String(token))).json as Record<string, unknown>;
    const payload = JSON.stringify({ SecretId: victim.ARN, text: `guess: ${value}` });
    const answer = await as("functions/invoke", { functionName: name, payload });
    assert.match(String(answer.reason), new RegExp(`guess: ${value}`), "as it was sent");
    assert.match(JSON.stringify(await as("functions/logs", { functionName: name })), new RegExp(`guess: ${value}`));
    // Who may read the value may see it cut out.
    const own = await world.invoke(name, { SecretId: victim.ARN, text: `guess: ${value}` });
    assert.match(String(own.reason), /guess: \[secret\]/);
  });

  it("neither does a function whose role may not read the secret that it rotates", async () => {
    const { name, arn } = await world.create({ file: "echo.mjs", bare: true });
    const { leastFunctionPolicy } = await world.ask("functions/policy", { functionName: name });
    await world.ask("functions/put-policy", { functionName: name, policy: leastFunctionPolicy });
    await world.rotate(victim.SecretId, arn);
    const { reason } = await world.rotationOf(victim.SecretId, ({ failedTries }) => failedTries > 0);
    assert.match(String(reason), new RegExp(`guess: ${value}`));
    assert.match(await world.logs(name), new RegExp(`guess: ${value}`));
    await world.root.cancelRotateSecret({ SecretId: victim.SecretId });
  });

  it("what the role may read is cut out, whether it has read it or not", async () => {
    const { SecretId } = await world.newSecret({ username: "app", password: value });
    const { name, arn } = await world.create({ file: "echo.mjs" });
    await world.rotate(SecretId, arn);
    const { reason } = await world.rotationOf(SecretId, ({ failedTries }) => failedTries > 0);
    assert.match(String(reason), /guess: \[secret\]/);
    assert.doesNotMatch(await world.logs(name), new RegExp(value));
    await world.root.cancelRotateSecret({ SecretId });
  });
});
