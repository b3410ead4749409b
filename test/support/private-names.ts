// Preloaded into an agent: names below plant.internal lead to this machine, as its private network's DNS would have it.
import dns, { type LookupOptions } from "node:dns";
import { syncBuiltinESMExports } from "node:module";

type Found = (error: NodeJS.ErrnoException | null, address: unknown, family?: number) => void;

const { lookup } = dns;
const lookUp = (name: string, options: LookupOptions, found: Found): void => {
  if (!name.endsWith(".plant.internal")) lookup(name, options, found as never);
  else if (options.all) process.nextTick(found, null, [{ address: "127.0.0.1", family: 4 }]);
  else process.nextTick(found, null, "127.0.0.1", 4);
};
dns.lookup = ((name: string, options: LookupOptions | Found, found: Found) =>
  typeof options === "function" ? lookUp(name, {}, options) : lookUp(name, options, found)) as never;
syncBuiltinESMExports();
