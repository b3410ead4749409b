import type { Principal } from "../../core/principal.ts";
import { notesOf } from "../../store/config-versions.ts";
import type { Config } from "../../store/configs.ts";
import type { Call } from "../operation.ts";
import { type ComputedValue, type ConfigReader, managedNames, managedValue } from "./config-values.ts";

/** Values for machines only are not shown to people: the root user, and users, whatever credentials they have. */
export function seesRestricted({ kind, serviceAccount }: Principal): boolean {
  return serviceAccount === true || (kind !== "root" && kind !== "user");
}

export interface Asked {
  /** Absent: all. */
  readonly names?: readonly string[] | undefined;
  readonly includeManaged: boolean;
}

/** What a config shows, by name in order. Of `names` those that are there. */
export async function readValues(reader: ConfigReader, config: Config, asked: Asked): Promise<Map<string, ComputedValue>> {
  const wanted = asked.names && new Set(asked.names);
  const names = [...(await reader.view(config)).keys()].filter((name) => wanted === undefined || wanted.has(name));
  const computed = await reader.compute(config, names);
  if (asked.includeManaged)
    for (const name of managedNames) {
      if (wanted !== undefined && !wanted.has(name)) continue;
      const raw = managedValue(config, name);
      computed.set(name, { raw, computed: raw.value, restricted: false });
    }
  return new Map([...computed].sort(([one], [other]) => (one < other ? -1 : 1)));
}

/** As callers see them: what is for machines only has no value for others. */
export async function shownValues(call: Call, config: Config, values: ReadonlyMap<string, ComputedValue>) {
  const notes = await notesOf(call.sql, config.projectId, [...values.keys()]);
  const all = seesRestricted(call.principal);
  return [...values].map(([name, { raw, computed, restricted }]) => {
    const type = raw.type ?? "string";
    return {
      Name: name,
      Raw: all || raw.visibility !== "restricted" ? raw.value : null,
      Computed: all || !restricted ? computed : null,
      RawVisibility: raw.visibility ?? "masked",
      ComputedVisibility: restricted ? "restricted" : (raw.visibility ?? "masked"),
      RawValueType: type,
      ComputedValueType: type,
      Note: notes.get(name) ?? "",
    };
  });
}
