import { randomInt } from "node:crypto";
import { z } from "zod";
import { generatePassword } from "../../core/password.ts";
import { defineOperation } from "../operation.ts";

const flag = z.boolean().optional();
const input = z.object({
  PasswordLength: z.number().int().min(1).max(4096).optional(),
  ExcludeCharacters: z.string().max(4096).optional(),
  ExcludeNumbers: flag,
  ExcludePunctuation: flag,
  ExcludeUppercase: flag,
  ExcludeLowercase: flag,
  IncludeSpace: flag,
  RequireEachIncludedType: flag,
});

/** A random password by rules. Source: AWS API reference, GetRandomPassword. */
export const getRandomPassword = defineOperation({
  name: "GetRandomPassword",
  action: "secretsmanager:GetRandomPassword",
  noun: "passwords",
  verb: "generate",
  mode: "read",
  summary: "Generates a random password by rules.",
  input,
  sensitive: ["ExcludeCharacters"],
  resource: () => ({ arn: "*", context: {} }),
  run: async (request) => ({
    RandomPassword: generatePassword(
      {
        length: request.PasswordLength,
        excludeCharacters: request.ExcludeCharacters,
        excludeNumbers: request.ExcludeNumbers,
        excludePunctuation: request.ExcludePunctuation,
        excludeUppercase: request.ExcludeUppercase,
        excludeLowercase: request.ExcludeLowercase,
        includeSpace: request.IncludeSpace,
        requireEachIncludedType: request.RequireEachIncludedType,
      },
      randomInt,
    ),
  }),
});
