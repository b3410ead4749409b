import { createSecretKey } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import type { AuditRecord } from "../../src/core/audit.ts";

export const auditKey = createSecretKey(Buffer.alloc(32, 7));

/** A record whose request id is `id`. */
export function auditRecord(id: string | number, more: Partial<AuditRecord> = {}): AuditRecord {
  return {
    requestId: String(id),
    at: 1_760_000_000_000,
    principal: "arn:aws:iam::000000000000:user/app",
    accessKeyId: "AKIAIOSFODNN7EXAMPLE",
    action: "secretsmanager:GetSecretValue",
    resource: "arn:aws:secretsmanager:us-east-1:000000000000:secret:prod/db-AbCdEf",
    region: "us-east-1",
    sourceIp: "127.0.0.1",
    userAgent: "tests",
    parameters: { SecretId: "prod/db" },
    outcome: "ok",
    ...more,
  };
}

/** A new data folder, removed after the test file. */
export function dataFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), "rekey-audit-"));
  after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}
