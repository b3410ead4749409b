/** Rekey as a part of another program: start a server from settings; with `processes` 1, as by default, in this process. */
export { type Config, type Flags, loadConfig } from "./config.ts";
export { ConfigError, ServiceError } from "./core/error.ts";
export { type RunningServer, startServer } from "./server.ts";
