import pg from "pg";
import { z } from "zod";
import { postgresDialect, renderStatement, statementList } from "./lease-statements.ts";
import type { LeasedUser } from "./lease-target.ts";

/** Longer names are cut by the server without a word. Source: PostgreSQL documentation, `NAMEDATALEN`. */
const name = z
  .string()
  .min(1)
  .refine((value) => Buffer.byteLength(value) <= 63 && !value.includes("\0"), "must have 1 to 63 bytes and no NUL");

const lasting = ["username", "usernameText"] as const;
const renewable = [...lasting, "expiration"] as const;
const all = [...renewable, "password"] as const;

export const postgresSettings = z
  .strictObject({
    /** Group roles that the user becomes a member of. */
    roles: z.array(name).min(1).max(20).optional(),
    /** In place of `roles`: they make a role of the name given, all of them or none. */
    creationStatements: statementList(postgresDialect, all, ["username", "password"]).optional(),
    /** Run besides the change of VALID UNTIL. */
    renewalStatements: statementList(postgresDialect, renewable).optional(),
    /** Run when the user can log in no more and its sessions have ended, before it is dropped. */
    revocationStatements: statementList(postgresDialect, lasting).optional(),
    /** What becomes of that which the user owns at its end. */
    owned: z.enum(["reassign", "drop"]).default("reassign"),
    /** Who gets it; else the only group role, where the managing user has its rights, else the managing user. */
    ownerRole: name.optional(),
  })
  .superRefine(({ roles, creationStatements }, context) => {
    if ((roles === undefined) === (creationStatements === undefined))
      context.addIssue({ code: "custom", message: "needs either roles, the group roles of the user, or creationStatements" });
  });

export type PostgresLeaseSettings = z.output<typeof postgresSettings>;

/** The server's own end of the login comes so much after ours, which ends sessions too. */
const graceMs = 60_000;

const timeText = (ms: number): string => pg.escapeLiteral(new Date(ms).toISOString());
const validUntil = ({ expiresAt }: LeasedUser): string => `valid until ${timeText(expiresAt + graceMs)}`;

/** A statement, and what to call it when it fails. */
export interface Labelled {
  readonly label: string;
  readonly text: string;
}

/** `verifier`: what the server keeps in place of the password, which it is never told. */
export function creationOf(settings: PostgresLeaseSettings, user: LeasedUser, verifier: string): Labelled[] {
  const { roles, creationStatements } = settings;
  const role = pg.escapeIdentifier(user.name);
  const password = pg.escapeLiteral(verifier);
  if (roles) {
    const groups = roles.map((one) => pg.escapeIdentifier(one)).join(", ");
    return [{ label: "creation", text: `create role ${role} login password ${password} ${validUntil(user)} in role ${groups}` }];
  }
  return [
    ...rendered("creationStatements", creationStatements, { ...valuesOf(user), password }),
    { label: "creationStatements made no role of the name given", text: `alter role ${role} ${validUntil(user)}` },
  ];
}

export const renewalOf = (settings: PostgresLeaseSettings, user: LeasedUser): Labelled[] => [
  { label: "renewal", text: `alter role ${pg.escapeIdentifier(user.name)} ${validUntil(user)}` },
  ...rendered("renewalStatements", settings.renewalStatements, valuesOf(user)),
];

export const revocationOf = (settings: PostgresLeaseSettings, user: LeasedUser): Labelled[] =>
  rendered("revocationStatements", settings.revocationStatements, valuesOf(user));

const valuesOf = (user: LeasedUser) => ({
  username: pg.escapeIdentifier(user.name),
  usernameText: pg.escapeLiteral(user.name),
  expiration: timeText(user.expiresAt),
});

function rendered(list: string, statements: readonly string[] = [], values: Readonly<Record<string, string>>): Labelled[] {
  return statements.map((statement, index) => ({
    label: `${list}[${index}]`,
    text: renderStatement(statement, postgresDialect, values),
  }));
}
