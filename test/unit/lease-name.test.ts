import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isLeaseName, leaseName, leasePrefix, requireLeaseName } from "../../src/targets/lease-name.ts";

const mark = { installation: "abcd1234", leaseId: "0190c2f4-7a3b-7def-8123-456789abcdef", secretName: "ORDERS_DB" };

test("names of leased users say whose they are, for what, and by which lease", () => {
  assert.equal(leaseName(mark, 63), "rk_abcd1234_orders_db_8123456789abcdef");
  assert.equal(leaseName(mark, 32), "rk_abcd1234_ord_8123456789abcdef");
  assert.equal(leaseName({ ...mark, secretName: "--" }, 63), "rk_abcd1234_x_8123456789abcdef");
});

test("whatever the secret is called, the name is of the form, within its length, and holds nothing to be quoted", () => {
  fc.assert(
    fc.property(
      fc.string({ maxLength: 200, unit: "binary" }),
      fc.uuid(),
      fc.integer({ min: 32, max: 128 }),
      (secretName, leaseId, max) => {
        const name = leaseName({ ...mark, secretName, leaseId }, max);
        assert.ok(name.length <= max && /^[a-z0-9_]+$/.test(name) && name.startsWith(leasePrefix(mark.installation)));
        assert.ok(isLeaseName(name, mark.installation));
        assert.ok(!isLeaseName(name, "zzzz9999"));
      },
    ),
  );
});

test("names of others are none of ours, however alike", () => {
  const name = leaseName(mark, 63);
  for (const other of [
    `${name}0`,
    name.slice(1),
    name.toUpperCase(),
    `${name}\n`,
    `x${name}`,
    name.replace("rk_", "rk%"),
    "rk_abcd1234",
    "",
  ]) {
    assert.equal(isLeaseName(other, mark.installation), false, other);
    assert.throws(() => requireLeaseName(other, mark.installation), { outcome: "invalid" });
  }
});
