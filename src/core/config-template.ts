import { parseDocument } from "yaml";
import { z } from "zod";
import { configLimits } from "./config-names.ts";
import { ServiceError } from "./error.ts";

const maxTemplateBytes = 2 * configLimits.configBytes;
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
  const document = parseDocument(yaml, { prettyErrors: false, logLevel: "silent", uniqueKeys: true });
  const [error] = document.errors;
  if (error) throw invalid(`Line ${yaml.slice(0, error.pos[0]).split("\n").length} of the template is not YAML.`);
  const parsed = template.safeParse(readPlain(document));
  if (parsed.success) return parsed.data.projects;
  const [issue] = parsed.error.issues;
  throw invalid(`Template: ${issue?.path.join(".") || "the document"} is not as a template has it: ${issue?.message ?? ""}.`);
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
