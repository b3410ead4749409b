// Secret values are cut out of what functions write, however it is written; and variables cannot change how programs start.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { environmentNameProblem } from "../../src/core/function.ts";
import { cutValues, secretTexts } from "../../src/functions/cut-values.ts";

test("the texts of a value: the whole, its JSON's texts and numbers, lines of keys; not names of servers and users", () => {
  const value = JSON.stringify({
    host: "db.example",
    username: "app-user",
    port: 5432,
    password: "pass-word",
    pin: 998877,
    more: { key: "first line\nsecond line" },
  });
  const texts = secretTexts(value);
  for (const secret of [value, "pass-word", "998877", "first line", "second line"]) assert.ok(texts.includes(secret), secret);
  for (const open of ["db.example", "app-user", "5432"]) assert.ok(!texts.includes(open), open);
  assert.deepEqual(secretTexts("  just text \n"), ["  just text \n", "just text"]);
  assert.deepEqual(secretTexts("abc"), []);
});

test("whatever the secret, no written form of it is left", () => {
  const secret = fc.string({ minLength: 8, maxLength: 40, unit: "grapheme-ascii" }).filter((text) => text.trim().length >= 6);
  fc.assert(
    fc.property(secret, fc.string(), (value, around) => {
      const forms = [
        value,
        JSON.stringify(value),
        JSON.stringify(JSON.stringify(value)),
        encodeURIComponent(value),
        Buffer.from(value).toString("base64"),
      ];
      const written = forms.map((form) => `${around} ${form} ${around}`).join("\n");
      const cut = cutValues(written, [value]);
      for (const form of [value, JSON.stringify(value).slice(1, -1)])
        assert.ok(around.includes(form) || "[secret]".includes(form) || !cut.includes(form), cut);
    }),
  );
});

test("of a text that was cut in the middle of a secret no part is left", () => {
  const secret = "0123456789abcdef";
  for (let at = 1; at < secret.length; at++) {
    assert.equal(cutValues(`before ${secret.slice(0, at)}`, [secret], true), "before ");
    assert.equal(cutValues(`${secret.slice(at)} after`, [secret], true), " after");
  }
  assert.equal(cutValues(`before ${secret} after`, [secret], true), "before [secret] after");
});

test("names of variables: capitals, and none that changes what is loaded, where to, or whom to trust", () => {
  for (const name of ["EXCLUDE_CHARACTERS", "PASSWORD_LENGTH", "MY_SETTING_2", "GOAL", "LDAP_HOST"])
    assert.equal(environmentNameProblem(name), undefined, name);
  for (const name of [
    "LD_PRELOAD",
    "LD_AUDIT",
    "DYLD_INSERT_LIBRARIES",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_EXTRA_CA_CERTS",
    "PYTHONPATH",
    "PYTHONINSPECT",
    "PERL5OPT",
    "RUBYOPT",
    "JAVA_TOOL_OPTIONS",
    "BASH_ENV",
    "ENV",
    "IFS",
    "PATH",
    "GLIBC_TUNABLES",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "HTTP_PROXY",
    "SSL_CERT_DIR",
    "OPENSSL_CONF",
    "PGSSLROOTCERT",
    "TMPDIR",
    "lower",
    "1ST",
    "A B",
    "A=B",
    "A\nB",
    "",
  ])
    assert.notEqual(environmentNameProblem(name), undefined, name);
});
