import { z } from "zod";
import { failureClasses } from "../core/error.ts";

// What verbs are asked and what they answer, beside credentials: those have their rotator's own shapes.

const text = z.string().max(65_536);
/** Epoch ms. */
const moment = z.number().int();

/** Of everything that a far side may answer; the same as in `target.ts`. */
export const strategy = z.enum(["single-user", "alternating-users", "dual-slot", "issuer", "generator"]);

export const outcome = z.enum(["ok", ...failureClasses]);

export const nothing = z.null();

export const issuedList = z
  .array(z.strictObject({ id: text.min(1), createdAt: moment.optional(), rotationId: text.optional() }))
  .max(20_000)
  .nullable();

export const findings = z
  .array(
    z.strictObject({
      step: z.enum(["createSecret", "setSecret", "testSecret", "finishSecret", "retirement"]),
      problem: text,
      remedy: text,
      warning: z.boolean().optional(),
    }),
  )
  .max(1_000);

export const comparison = z.strictObject({
  users: z.array(z.strictObject({ name: text, exists: z.boolean() })).max(10),
  differences: z
    .array(
      z.strictObject({
        kind: z.enum(["attribute", "limit", "membership", "grant", "default", "setting", "ownership"]),
        what: text,
        first: text.optional(),
        second: text.optional(),
        statements: z.array(text).max(1_000),
      }),
    )
    .max(10_000),
  advice: z.array(text).max(100),
});

export const passwordShape = z.strictObject({
  length: z.number().int().optional(),
  exclude: z.string().max(1_024).optional(),
  urlSafe: z.boolean().optional(),
});

export const leasedUser = z.strictObject({
  mark: z.strictObject({ installation: z.string().max(64), leaseId: z.string().max(64), secretName: z.string().max(1_024) }),
  name: z.string().max(1_024),
  /** Absent in JSON when there is none. */
  handle: z.string().max(4_096).optional(),
  expiresAt: moment,
});

export const identity = z.strictObject({ identity: text });

export const leaseFindings = z.array(z.strictObject({ problem: text, remedy: text, warning: z.boolean().optional() })).max(1_000);

export const created = z.strictObject({ fields: z.record(z.string().max(256), text), handle: z.string().max(4_096).optional() });

export const foundUsers = z
  .array(z.strictObject({ name: text, handle: text.optional(), createdAt: moment.optional() }))
  .max(50_000)
  .nullable();
