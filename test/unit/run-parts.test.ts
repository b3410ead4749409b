import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { shellText } from "../../src/commands/export.ts";
import { configName, joinValues, valuesOf } from "../../src/commands/import/aws-values.ts";
import { planOf } from "../../src/commands/import.ts";
import { childEnvironment } from "../../src/commands/run/environment.ts";
import { leasesIn } from "../../src/commands/run/leased-values.ts";
import { CopySealer, type OfflineCopy } from "../../src/commands/run/sealed-copy.ts";
import { renderTemplate } from "../../src/commands/run/template.ts";
import { EventParser } from "../../src/commands/run/watch.ts";

const map = (secrets: Record<string, string>): Map<string, string> => new Map(Object.entries(secrets));

test("what a secret may not replace in an environment unless it is asked for", () => {
  const inherited = { PATH: "/bin", A: "own", GONE: undefined };
  const secrets = map({ PATH: "/evil", LD_PRELOAD: "/evil.so", A: "1", DOPPLER_CONFIG: "dev" });
  const plain = childEnvironment(inherited, secrets, {});
  assert.deepEqual(plain.env, { PATH: "/bin", A: "1", DOPPLER_CONFIG: "dev", REKEY_CONFIG: "dev" });
  assert.deepEqual(plain.reserved, ["PATH", "LD_PRELOAD"]);
  const asked = childEnvironment(inherited, secrets, { overwrite: ["PATH"], preserve: ["A"] });
  assert.deepEqual([asked.env.PATH, asked.env.A, asked.reserved], ["/evil", "own", ["LD_PRELOAD"]]);
  const all = childEnvironment(inherited, secrets, { preserve: "all" });
  assert.deepEqual([all.env.PATH, all.env.A, all.env.DOPPLER_CONFIG], ["/bin", "own", "dev"]);
});

test("templates put values in as they are, and name what they do not know", () => {
  const secrets = map({ A: "{{B}} $& $1", B: 'q"\n' });
  assert.equal(
    renderTemplate("a={{A}} b={{ json B }} c={{- .A -}} d={{tojson .B}}", secrets),
    'a={{B}} $& $1 b="q\\"\\n" c={{B}} $& $1 d="q\\"\\n"',
  );
  assert.throws(() => renderTemplate("{{NOPE}}", secrets), /names NOPE/);
  assert.throws(() => renderTemplate("{{range .}}", secrets), /all there is/);
});

test("leases are what has both an id and an end, by our own clock", () => {
  const leased = map({
    DB_LEASE_ID: "1",
    DB_LEASE_EXPIRATION: "2026-01-01T00:01:00.000Z",
    DB_USERNAME: "u",
    X_LEASE_EXPIRATION: "2026-01-01T00:00:00Z",
  });
  const ahead = 5_000;
  assert.deepEqual(leasesIn(leased, ahead), [
    { name: "DB", id: "1", expiresAt: Date.UTC(2026, 0, 1, 0, 0, 55), serverAheadMs: ahead },
  ]);
});

const copy: OfflineCopy = { values: { A: "1" }, leasedNames: ["DB_PASSWORD"], confirmedAt: 1 };

test("an offline copy is opened by its token alone, and not at all once a byte of it is another", async () => {
  const sealer = new CopySealer("dp.st.one");
  const text = await sealer.seal(copy);
  assert.deepEqual(await sealer.open(text), copy);
  assert.deepEqual(await new CopySealer("dp.st.one").open(text), copy);
  assert.equal(await new CopySealer("dp.st.two").open(text), undefined);
  assert.notEqual(await sealer.seal(copy), text);
  const bytes = Buffer.from(text.split("\n")[1] ?? "", "base64");
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 16, max: bytes.length - 1 }), fc.integer({ min: 1, max: 255 }), async (at, change) => {
      const other = Buffer.from(bytes);
      other[at] = (other[at] ?? 0) ^ change;
      assert.equal(await sealer.open(`rekey-offline-1\n${other.toString("base64")}\n`), undefined);
    }),
    { numRuns: 25 },
  );
  for (const nothing of ["", "rekey-offline-1\n", "rekey-offline-2\nAAAA", text.replace("offline-1", "offline-9")])
    assert.equal(await sealer.open(nothing), undefined);
});

test("events are read from pieces of any size", () => {
  const stream =
    'event: message\ndata: {"type":"connected"}\n\n: comment\n\ndata: {"type":"ping"}\r\n\r\nid: 4\ndata: {"type":"secrets.update"}\n\ndata: nonsense\n\n';
  fc.assert(
    fc.property(fc.array(fc.nat(stream.length), { maxLength: 10 }), (cuts) => {
      const places = [0, ...cuts.sort((a, b) => a - b), stream.length];
      const parser = new EventParser();
      const events = places.slice(1).flatMap((end, index) => parser.push(stream.slice(places[index], end)));
      assert.deepEqual(events, ["connected", "update"]);
    }),
  );
});

test("a plan tells what is new, changed and the same, by name", () => {
  const plan = planOf(
    map({ B: "2", A: "1", C: "3" }),
    new Map([
      ["B", "2"],
      ["C", null],
    ]),
  );
  assert.deepEqual(
    plan.map(({ name, state }) => [name, state]),
    [
      ["A", "new"],
      ["B", "same"],
      ["C", "changed"],
    ],
  );
});

test("secrets of AWS become names of a config, and two that would become one are told", () => {
  assert.deepEqual(valuesOf("app/db", '{"username":"u","port":5432}', {}), [
    ["APP_DB_USERNAME", "u"],
    ["APP_DB_PORT", "5432"],
  ]);
  assert.deepEqual(valuesOf("app/db", '{"username":"u"}', { whole: true }), [["APP_DB", '{"username":"u"}']]);
  assert.deepEqual(valuesOf("app/api-key", "k", { stripPrefix: "app/" }), [["API_KEY", "k"]]);
  assert.deepEqual(valuesOf("app/", '{"A":"1"}', { stripPrefix: "app/" }), [["A", "1"]]);
  assert.deepEqual([configName("9x"), configName("-"), configName("a//b", "c d")], ["_9X", "_", "A_B_C_D"]);
  assert.throws(
    () =>
      joinValues([
        { from: "a-b", values: [["A_B", "1"]] },
        { from: "a/b", values: [["A_B", "2"]] },
      ]),
    /a-b and a\/b would both become A_B/,
  );
});

test("a value for a shell stands for itself", () => {
  assert.equal(shellText(map({ A: "it's $HOME `id`" })), "export A='it'\\''s $HOME `id`'\n");
  assert.throws(() => shellText(map({ A: "\0" })), /value of A holds a NUL/);
});
