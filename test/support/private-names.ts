// Preloaded: names below plant.internal lead to this machine, as the DNS of a private network would have it; with
// PLANT_NAMES=unknown there are none, as in any other place.
import dns, { type LookupOptions } from "node:dns";
import { syncBuiltinESMExports } from "node:module";

type Found = (error: NodeJS.ErrnoException | null, address: unknown, family?: number) => void;

const { lookup } = dns;
const lookUp = (name: string, options: LookupOptions, found: Found): void => {
  const isUnknown = process.env.PLANT_NAMES === "unknown";
  if (!name.endsWith(".plant.internal")) lookup(name, options, found as never);
  else if (isUnknown) process.nextTick(found, Object.assign(new Error(`no name ${name}`), { code: "ENOTFOUND" }));
  else if (options.all) process.nextTick(found, null, [{ address: "127.0.0.1", family: 4 }]);
  else process.nextTick(found, null, "127.0.0.1", 4);
};
dns.lookup = ((name: string, options: LookupOptions | Found, found: Found) =>
  typeof options === "function" ? lookUp(name, {}, options) : lookUp(name, options, found)) as never;
syncBuiltinESMExports();
