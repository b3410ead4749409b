import { anyText, count, flag, header, json, list, mapped, renamed, text } from "./config-api-input.ts";
import { type ConfigRoute, config, noContent, project, RawAnswer, route } from "./config-api-route.ts";
import { type SecretOutput, secretOf, secretsOf } from "./config-api-shapes.ts";

/** Null stands for no change, as absence does; the CLI sends every member. */
const changeRequests = mapped(json("change_requests"), (given) => withTypes(changes(given)));
const changes = renamed({
  name: "Name",
  originalName: "OriginalName",
  value: "Value",
  originalValue: "OriginalValue",
  visibility: "Visibility",
  originalVisibility: "OriginalVisibility",
  valueType: "ValueType",
  originalValueType: "OriginalValueType",
  shouldDelete: "ShouldDelete",
  shouldPromote: "ShouldPromote",
  shouldConverge: "ShouldConverge",
});

/** `{type: "string"}` is `"string"`. */
function withTypes(requests: unknown): unknown {
  if (!Array.isArray(requests)) return requests;
  return requests.map((request: unknown) => {
    if (typeof request !== "object" || request === null) return request;
    const plain = Object.entries(request).map(([name, value]) => [name, name.endsWith("ValueType") ? typeOf(value) : value]);
    return Object.fromEntries(plain.filter(([, value]) => value !== undefined));
  });
}

const typeOf = (value: unknown): unknown =>
  typeof value === "object" && value !== null && "type" in value ? (value.type ?? undefined) : value;

const leases = {
  IncludeDynamicSecrets: flag("include_dynamic_secrets"),
  DynamicSecretsTtlSeconds: count("dynamic_secrets_ttl_sec"),
  Workload: text("workload"),
};
const managed = { IncludeManagedSecrets: flag("include_managed_secrets") };

interface DownloadOutput {
  readonly Body: string | Uint8Array;
  readonly ContentType: string;
  readonly ETag?: string;
  readonly NotModified?: boolean;
}

function download({ Body, ContentType, ETag, NotModified }: DownloadOutput): RawAnswer {
  const headers = ETag === undefined ? {} : { etag: ETag };
  return NotModified ? new RawAnswer(304, headers) : new RawAnswer(200, { ...headers, "content-type": ContentType }, Body);
}

const note = { ...project, Secret: text("secret"), Note: anyText("note") };
const noted = ({ Secret, Note }: { Secret: string; Note: string }) => ({ secret: Secret, note: Note });

/** A config's values. */
export const secretRoutes: readonly ConfigRoute[] = [
  route("GET /v3/configs/config/secrets", "ListConfigSecrets", {
    input: { ...config, Names: list("secrets"), ...managed, ...leases },
    answer: secretsOf,
  }),
  route<{ Names: string[] }>("GET /v3/configs/config/secrets/names", "ListConfigSecretNames", {
    input: { ...config, ...managed },
    answer: ({ Names }) => ({ names: Names }),
  }),
  route("GET /v3/configs/config/secrets/download", "DownloadConfigSecrets", {
    input: {
      ...config,
      ...leases,
      Format: text("format"),
      NameTransformer: text("name_transformer"),
      Names: list("secrets"),
      IfNoneMatch: header("if-none-match"),
    },
    answer: download,
  }),
  route("POST /v3/configs/config/secrets", "SetConfigSecrets", {
    input: { ...config, Secrets: json("secrets"), ChangeRequests: changeRequests },
    answer: secretsOf,
  }),
  route("POST /v3/configs/config/secrets/upload", "UploadConfigSecrets", {
    input: { ...config, File: anyText("file") },
    answer: secretsOf,
  }),
  route<{ Secret: SecretOutput }>("GET /v3/configs/config/secret", "GetConfigSecret", {
    input: { ...config, Name: text("name") },
    answer: ({ Secret }) => ({ name: Secret.Name, value: secretOf(Secret) }),
  }),
  route("DELETE /v3/configs/config/secret", "DeleteConfigSecret", {
    input: { ...config, Name: text("name") },
    answer: noContent,
  }),
  route("POST /v3/projects/project/note", "SetSecretNote", { input: note, answer: noted }),
  route("POST /v3/configs/config/secrets/note", "SetSecretNote", { input: { ...note, Config: text("config") }, answer: noted }),
];
