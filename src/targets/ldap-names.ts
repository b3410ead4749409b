import { z } from "zod";
import type { LdapLogin } from "./ldap-session.ts";

const startTlsPorts: readonly number[] = [389, 3268];

/** `cn=app,ou=services,dc=example,dc=com`. Source: RFC 4514, section 3, but for its rules of what must be escaped. */
const dnShape =
  /^(?:[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)*)\s*=(?:[^\\,+]|\\[\s\S])*(?:[,+]\s*(?:[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)*)\s*=(?:[^\\,+]|\\[\s\S])*)*$/;

export const distinguishedName = z
  .string()
  .regex(dnShape, "must be a distinguished name, as cn=app,ou=services,dc=example,dc=com");

/** `starttls` of a secret or a connection. */
export const startTls = z.union([z.boolean(), z.enum(["true", "false"]).transform((value) => value === "true")]).optional();

interface Place {
  readonly port: number;
  readonly ssl?: boolean | undefined;
  readonly starttls?: boolean | undefined;
}

/** How the connection is made safe; by the port's custom where nothing is said. */
export function tlsOf({ port, ssl, starttls = startTlsPorts.includes(port) }: Place): LdapLogin["tls"] {
  if (ssl === false) return "none";
  return starttls ? "starttls" : "implicit";
}
