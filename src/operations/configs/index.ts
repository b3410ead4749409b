import type { Operation } from "../operation.ts";
import { cloneOperations } from "./clone.ts";
import { configOperations } from "./configs.ts";
import { downloadOperations } from "./download.ts";
import { environmentOperations } from "./environments.ts";
import { inheritanceOperations } from "./inheritance.ts";
import { logOperations } from "./logs.ts";
import { projectOperations } from "./projects.ts";
import { readSecretOperations } from "./read-secrets.ts";
import { templateOperations } from "./template.ts";
import { writeSecretOperations } from "./write-secrets.ts";

/** Where applications' secrets live. */
export const configsOperations: readonly Operation[] = [
  ...projectOperations,
  ...environmentOperations,
  ...configOperations,
  ...inheritanceOperations,
  ...readSecretOperations,
  ...writeSecretOperations,
  ...downloadOperations,
  ...cloneOperations,
  ...logOperations,
  ...templateOperations,
];
