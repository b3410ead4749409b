import { z } from "zod";
import { type DatabaseLogin, loginMembers, unsafeCharacters } from "./database-secret.ts";
import type { LeaseTools } from "./lease-target.ts";

/** The managing user of a database: members as in the secrets that are rotated there. */
export const managingLogin = (port: number, dbname?: string) =>
  z.strictObject({
    ...loginMembers(port),
    dbname: z
      .string()
      .min(1)
      .max(255)
      .refine((value) => !value.includes("\0"), "may not contain NUL")
      .optional()
      .transform((value) => value ?? dbname),
  });

export type ManagingLogin = z.output<ReturnType<typeof managingLogin>>;

export const loginOf = ({ host, port, username, password, dbname, ssl, sslrootcert }: ManagingLogin): DatabaseLogin => ({
  host,
  port,
  username,
  password,
  dbname,
  ssl,
  sslrootcert,
});

export const managerSecrets = ["password"] as const;

/** Of letters, digits, `-`, `.` and `_`. */
export const leasePassword = ({ generatePassword }: LeaseTools): string =>
  generatePassword({ length: 32, exclude: unsafeCharacters });
