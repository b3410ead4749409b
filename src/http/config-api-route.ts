import { type Asked, count, type Field, orElse, text } from "./config-api-input.ts";

/** An answer that is no JSON of ours: sent as it is. */
export class RawAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array;

  constructor(status: number, headers: Readonly<Record<string, string>> = {}, body: string | Uint8Array = "") {
    this.status = status;
    this.headers = headers;
    this.body = body;
  }
}

/** Whose call it is: that of the token in the header, of the one in the body, of another issuer's there, or of nobody who is known. */
export type Caller = "header" | "body" | "oidc" | "anyone";

/** One endpoint of the config API: which operation it is, and how both sides' words for things are exchanged. */
export interface ConfigRoute {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** `:name` stands for a part of the path. */
  readonly path: string;
  /** By name. */
  readonly operation: string;
  /** By the operation's member names. */
  readonly input: Readonly<Record<string, Field>>;
  /** Absent: that of the token in the header. */
  readonly caller?: Caller;
  /** JSON of the answer. */
  answer(output: object, asked: Asked): object;
}

type RouteOf<Output> = Omit<ConfigRoute, "method" | "path" | "operation" | "answer"> & {
  answer(output: Output, asked: Asked): object;
};

/** `route("GET /v3/projects", "ListProjects", {…})`. */
export function route<Output extends object>(endpoint: string, operation: string, rest: RouteOf<Output>): ConfigRoute {
  const [method, path] = endpoint.split(" ");
  return { method, path, operation, ...rest } as unknown as ConfigRoute;
}

/** Of every call about a config; a service token stands in for what is left out. */
export const project = { Project: text("project") };
export const config = { ...project, Config: text("config") };
/** Both have Doppler's defaults. */
export const paging = { Page: orElse(count("page"), 1), PerPage: orElse(count("per_page"), 20) };

export const done = (): object => ({ success: true });
export const noContent = (): RawAnswer => new RawAnswer(204);

/** The page that was asked for, as Doppler's answers repeat it. */
export const pageOf = (asked: Asked): number => Number(asked.find("page") ?? 1) || 1;
