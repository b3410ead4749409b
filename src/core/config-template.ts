import { isScalar, parseDocument, visit } from "yaml";
import { z } from "zod";
import { configLimits } from "./config-names.ts";
import { isBoundedYaml } from "./config-yaml.ts";
import { ServiceError } from "./error.ts";

const maxTemplateBytes = 2 * configLimits.configBytes;
/** Some 6,000 secrets. */
const maxTokens = 50_000;
const text = z.union([z.string(), z.number(), z.boolean()]).transform(String);
const slug = z.string().max(64);

const template = z.object({
  projects: z
    .array(
      z.object({
        name: slug,
        description: z.string().max(2000).nullish(),
        environments: z
          .array(z.object({ name: z.string().max(100), slug, configs: z.array(z.object({ slug })).max(1000).nullish() }))
          .max(100)
          .nullish(),
        secrets: z.record(z.string().max(64), z.record(z.string().max(500), text).nullable()).nullish(),
      }),
    )
    .min(1)
    .max(50),
});

export type ProjectTemplate = z.infer<typeof template>["projects"][number];

/**
 * Projects with their environments, configs and first secrets, by the names of configs.
 * @throws ServiceError ValidationException naming the line, or the member, never a value. Source: Doppler documentation, "Project templates".
 */
export function parseTemplate(yaml: string): readonly ProjectTemplate[] {
  if (Buffer.byteLength(yaml) > maxTemplateBytes)
    throw new ServiceError("RequestEntityTooLarge", `A template can't be longer than ${maxTemplateBytes / 1024} KiB.`);
  if (!isBoundedYaml(yaml, maxTokens)) throw invalid("The template has too many parts: import it in several.");
  const document = parseDocument(yaml, { prettyErrors: false, logLevel: "silent", uniqueKeys: false });
  const [error] = document.errors;
  if (error) throw invalid(`Line ${lineAt(yaml, error.pos[0])} of the template is not YAML.`);
  refuseTwice(yaml, document);
  const parsed = template.safeParse(readPlain(document));
  if (parsed.success) return parsed.data.projects;
  const [issue] = parsed.error.issues;
  throw invalid(`Template: ${issue?.path.join(".") || "the document"} is not as a template has it: ${issue?.message ?? ""}.`);
}

const lineAt = (yaml: string, offset: number): number => yaml.slice(0, offset).split("\n").length;

/** The parser's own look for names that stand twice compares each with all others. */
function refuseTwice(yaml: string, document: ReturnType<typeof parseDocument>): void {
  visit(document, {
    Map(_key, { items }) {
      const seen = new Set<unknown>();
      for (const { key } of items) {
        if (!isScalar(key)) continue;
        if (seen.has(key.value)) throw invalid(`Line ${lineAt(yaml, key.range?.[0] ?? 0)} of the template has a name again.`);
        seen.add(key.value);
      }
    },
  });
}

function readPlain(document: ReturnType<typeof parseDocument>): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    if (error instanceof ReferenceError || error instanceof RangeError) throw invalid("The template repeats too much of itself.");
    throw error;
  }
}

function invalid(message: string): ServiceError {
  return new ServiceError("ValidationException", message);
}
