import { z } from "zod";
import { distinguishedName } from "./ldap-names.ts";
import type { Attributes } from "./ldap-session.ts";
import type { LeasedUser } from "./lease-target.ts";

/** Source: RFC 4512, section 1.4 and 2.5: a name or an OID, with options. */
const attributeName = z
  .string()
  .max(128)
  .regex(/^(?:[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)+)(?:;[A-Za-z0-9-]+)*$/, "must be the name of an attribute");

const placeholders = ["username", "dn", "expiration"] as const;
const shape = /\{\{\s*(\w*)\s*\}\}/g;

const value = z
  .string()
  .min(1)
  .max(4_096)
  .superRefine((text, context) => {
    const allowed = placeholders.map((name) => `{{${name}}}`).join(", ");
    for (const [whole, name = ""] of text.matchAll(shape)) {
      if (!placeholders.some((one) => one === name))
        context.addIssue({ code: "custom", message: `has no placeholder ${whole}; here are ${allowed}` });
    }
  });

const passwords = /^(userpassword|unicodepwd|clearpassword|olcrootpw)(;|$)/i;

export const ldapSettings = z.strictObject({
  /** The entry, values by attribute; `{{username}}`, `{{dn}}` and `{{expiration}}` (a generalized time) are put in. */
  attributes: z
    .record(attributeName, z.union([value.transform((one) => [one]), z.array(value).min(1).max(100)]))
    .refine((given) => Object.keys(given).every((name) => !passwords.test(name)), "may set no password: the lease does")
    .refine((given) => Object.keys(given).some((name) => name.toLowerCase() === "objectclass"), "must name objectClass")
    .default({ objectClass: ["inetOrgPerson"], cn: ["{{username}}"], sn: ["{{username}}"] }),
  /** Groups that the entry joins: in `attribute` of each, its distinguished name, or for `memberUid` its name alone. */
  groups: z
    .array(
      z.strictObject({
        dn: distinguishedName,
        attribute: z.enum(["member", "uniqueMember", "memberUid"]).default("member"),
      }),
    )
    .max(50)
    .default([]),
});

export type LdapLeaseSettings = z.output<typeof ldapSettings>;
export type Group = LdapLeaseSettings["groups"][number];

/** `20261121210000Z`. Source: RFC 4517, section 3.3.13. */
const generalizedTime = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19).replace(/[-:T]/g, "")}Z`;

/** `renewed`: those alone that a later end changes. */
export function attributesOf(settings: LdapLeaseSettings, user: LeasedUser, dn: string, renewed = false): Attributes {
  const values: Readonly<Record<string, string>> = { username: user.name, dn, expiration: generalizedTime(user.expiresAt) };
  const filled = (text: string): string => text.replace(shape, (_, name: string) => values[name] ?? "");
  return Object.fromEntries(
    Object.entries(settings.attributes)
      .filter(([, texts]) => !renewed || texts.some((text) => /\{\{\s*expiration\s*\}\}/.test(text)))
      .map(([name, texts]) => [name, texts.map(filled)]),
  );
}

/** As the group names the member. */
export const memberValue = ({ attribute }: Group, user: LeasedUser, dn: string): string =>
  attribute === "memberUid" ? user.name : dn;
