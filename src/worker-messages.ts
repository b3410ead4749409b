import type { Config } from "./config.ts";
import type { Part } from "./server-node.ts";

/** What the supervisor tells a worker. */
export type ToWorker =
  | { readonly tell: "start"; readonly config: Config; readonly role: Part["role"]; readonly socketFolder: string }
  | { readonly tell: "drain" }
  | { readonly tell: "stop" }
  | { readonly tell: "wake" }
  | { readonly tell: "reload TLS" }
  | { readonly tell: "measure"; readonly id: number }
  | { readonly tell: "measured"; readonly id: number; readonly text: string };

/** What a worker tells the supervisor: that it serves, why it cannot, that the engine has work; its metrics; that it wants all. */
export type FromWorker =
  | { readonly tell: "ready"; readonly endpoint: string }
  | { readonly tell: "failed"; readonly problems: readonly string[] }
  | { readonly tell: "wake" }
  | { readonly tell: "measured"; readonly id: number; readonly text: string }
  | { readonly tell: "measure all"; readonly id: number };
