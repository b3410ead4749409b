import { createHash } from "node:crypto";
import { z } from "zod";
import { type ConfigFormat, configFormats, renderSecrets } from "../../core/config-formats.ts";
import { type NameTransformer, nameTransformers } from "../../core/config-transformers.ts";
import { ServiceError } from "../../core/error.ts";
import { type Config, loadConfig } from "../../store/configs.ts";
import { refuseUntrusted } from "../config-access/trusted-ips.ts";
import { type Call, defineOperation, type Operation } from "../operation.ts";
import { configMembers } from "./config-input.ts";
import { type ConfigResource, configResource, existingConfig } from "./config-resource.ts";
import { ConfigReader } from "./config-values.ts";
import { askedDynamicSecrets, leasedFields, leaseMembers } from "./leased-values.ts";
import { names } from "./read-secrets.ts";
import { readValues, seesRestricted } from "./shown-values.ts";

const input = z.object({
  ...configMembers,
  ...leaseMembers,
  Format: z.enum(configFormats).default("json"),
  NameTransformer: z.enum(nameTransformers).optional(),
  Names: names.optional(),
  IfNoneMatch: z.string().max(1000).optional(),
});
type Input = z.infer<typeof input>;

/**
 * A config's secrets as one text. What was rendered is kept, encrypted, until the config's generation rises: its ETag is a keyed
 * digest of it, so that it tells nothing of the values. An answer with leases has none, as nobody may show them again.
 * Source: Doppler API reference, "Config secrets", Download.
 */
const downloadConfigSecrets = defineOperation<Input, ConfigResource>({
  name: "DownloadConfigSecrets",
  action: "rekey:GetConfigSecrets",
  noun: "config-secrets",
  verb: "download",
  mode: "write", // with leases it is
  summary:
    "Renders a config's secrets as JSON, env, YAML or for Docker, with an ETag. Values for machines only are refused to people.",
  input,
  resource: configResource,
  async run(request, found, call) {
    const config = existingConfig(found);
    refuseUntrusted(call, config);
    const dynamic = await askedDynamicSecrets(call, config, request);
    if (dynamic.length > 0) {
      const values = await plainValues(call, config, request);
      renderSecrets(values, options(request)); // what cannot be rendered costs no lease
      for (const [name, value] of await leasedFields(call, dynamic, request)) values.set(name, value);
      const { body, contentType } = renderSecrets(values, options(request));
      call.services.noteFetch(config.id, call.startedAt);
      return { Body: body, ContentType: contentType };
    }
    const { body, etag, contentType } = await snapshot(call, config, request);
    if (isKnown(request.IfNoneMatch, etag)) return { NotModified: true, ETag: etag };
    call.services.noteFetch(config.id, call.startedAt);
    return { Body: body(), ContentType: contentType, ETag: etag };
  },
});

/** Weak comparison, as RFC 9110 has it for If-None-Match. */
function isKnown(header: string | undefined, etag: string): boolean {
  const digest = etag.slice(2);
  return (header ?? "").split(",").some((known) => known.trim().replace(/^W\//, "") === digest);
}

interface Snapshot {
  readonly etag: string;
  readonly contentType: string;
  body(): string;
}

const maxTries = 3;

async function snapshot(call: Call, asOf: Config, request: Input): Promise<Snapshot> {
  const { downloads, digest } = call.services;
  const name = nameOf(call, asOf, request);
  const known = downloads.about(name);
  if (known?.generation === asOf.generation) return { ...known, body: () => downloads.text(name) ?? "" };
  for (let config = asOf, tries = 1; ; tries++) {
    const { body, contentType } = renderSecrets(await plainValues(call, config, request), options(request));
    const now = await loadConfig(call.sql, config.id);
    // Values that were changed while they were read may not belong together.
    if (now && now.generation !== config.generation && tries < maxTries) {
      config = now;
      continue;
    }
    const etag = `W/"${Buffer.from(digest(Buffer.from(body), `config download ${contentType}`)).toString("hex")}"`;
    downloads.put(name, body, { generation: config.generation, etag, contentType });
    return { etag, contentType, body: () => body };
  }
}

function nameOf({ principal }: Call, { id }: Config, { Format, NameTransformer, Names }: Input): string {
  const asked = JSON.stringify([Format, NameTransformer ?? "", seesRestricted(principal), Names?.toSorted() ?? ""]);
  return `${id} ${createHash("sha256").update(asked).digest("base64")}`;
}

function options({ Format, NameTransformer }: Input): { format: ConfigFormat; transformer?: NameTransformer | undefined } {
  return { format: Format, transformer: NameTransformer };
}

/** @throws ServiceError AccessDeniedException naming values for machines only, when people ask */
async function plainValues(call: Call, config: Config, { Names }: Input): Promise<Map<string, string>> {
  const values = await readValues(new ConfigReader(call.services), config, { names: Names, includeManaged: true });
  if (!seesRestricted(call.principal)) {
    const hidden = [...values].flatMap(([name, { restricted }]) => (restricted ? [name] : []));
    if (hidden.length > 0)
      throw new ServiceError(
        "AccessDeniedException",
        `Config ${config.name} has restricted secrets, which only machines may download (${hidden.slice(0, 5).join(", ")}${hidden.length > 5 ? ", …" : ""}): name the others, or use a service token.`,
      );
  }
  return new Map([...values].map(([name, { computed }]) => [name, computed]));
}

export const downloadOperations: readonly Operation[] = [downloadConfigSecrets];
