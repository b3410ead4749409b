import { computeValues } from "../../core/config-compute.ts";
import { type ConfigDocument, type ConfigValue, parseConfigDocument } from "../../core/config-document.ts";
import { isManagedName } from "../../core/config-names.ts";
import { type ConfigPlace, findReferences } from "../../core/config-references.ts";
import { ServiceError } from "../../core/error.ts";
import { decryptionFailureText } from "../../crypto/failure-texts.ts";
import { parentIds } from "../../store/config-inherits.ts";
import { loadDocument, versionContext } from "../../store/config-versions.ts";
import { type Config, findConfig, findRootConfig, loadConfig } from "../../store/configs.ts";
import { rotatedFields } from "../../store/rotated-fields.ts";
import type { Services } from "../services.ts";

/** A value that a config shows, wherever it comes from. */
export interface SeenValue extends ConfigValue {
  /** Where its own references are looked up. */
  readonly home: ConfigPlace;
  /** Of a rotated secret or a managed name: nothing in it is a reference. */
  readonly literal?: boolean;
}

export interface ComputedValue {
  readonly raw: SeenValue;
  readonly computed: string;
  /** It shows something that is for machines only, its own or what it refers to. */
  readonly restricted: boolean;
}

type View = Map<string, SeenValue>;

/** More configs than one refers to, however indirectly, in any honest use. */
const maxViews = 200;

export const placeOf = ({ projectId, name }: Pick<Config, "projectId" | "name">): ConfigPlace => ({
  project: projectId,
  config: name,
});

/** Reads configs' values for one request; what it opened goes with it. */
export class ConfigReader {
  readonly #services: Pick<Services, "sql" | "envelope">;
  readonly #views = new Map<string, Promise<View>>();
  readonly #places = new Map<string, Promise<{ config: Config; view: View } | undefined>>();

  constructor(services: Pick<Services, "sql" | "envelope">) {
    this.#services = services;
  }

  /** A config's own values, in its newest version or an earlier one. @throws ServiceError ResourceNotFoundException when that is not kept any more */
  async own({ id, version, name }: Config, number = version): Promise<ConfigDocument> {
    if (number === 0) return new Map();
    const sealed = await loadDocument(this.#services.sql, id, number);
    if (!sealed && number === version)
      throw new ServiceError("DecryptionFailure", decryptionFailureText, {
        cause: new Error(`config ${id} lacks version ${number}`),
      });
    if (!sealed)
      throw new ServiceError("ResourceNotFoundException", `The values of config ${name} of then are not kept any more.`);
    const opened = await this.#services.envelope.open(sealed, versionContext(id, number));
    return parseConfigDocument(opened.revealText());
  }

  /** All that a config shows: its own values over its root's over those of what it inherits. */
  view(config: Config): Promise<View> {
    return this.#view(config, new Set());
  }

  /** What it would show without values of its own. */
  beneath(config: Config): Promise<View> {
    return this.#beneath(config, new Set([config.id]));
  }

  /** These names' values with what they refer to put in; those that are not there are left out. */
  async compute(config: Config, names: Iterable<string>): Promise<Map<string, ComputedValue>> {
    const home = placeOf(config);
    this.#places.set(
      keyOf(home),
      this.view(config).then((view) => ({ config, view })),
    );
    const wanted = [...names];
    const seen = await this.#closure(home, wanted);
    const find = (place: ConfigPlace, name: string) => seen.get(`${keyOf(place)}/${name}`);
    const { values } = computeValues(home, wanted, find);
    const tainted = taintedOf(seen);
    const computed = new Map<string, ComputedValue>();
    for (const [name, text] of values) {
      const raw = find(home, name);
      if (raw) computed.set(name, { raw, computed: text, restricted: tainted.has(`${keyOf(home)}/${name}`) });
    }
    return computed;
  }

  #view(config: Config, above: ReadonlySet<string>): Promise<View> {
    // What stands above is part of the way: nothing is shown through itself, though nothing that is kept says so.
    if (above.has(config.id)) return Promise.resolve(new Map());
    const known = this.#views.get(config.id);
    if (known) return known;
    const view = this.#load(config, new Set([...above, config.id]));
    this.#views.set(config.id, view);
    return view;
  }

  async #load(config: Config, above: ReadonlySet<string>): Promise<View> {
    const view = await this.#beneath(config, above);
    const home = placeOf(config);
    for (const [name, value] of await this.own(config)) view.set(name, { ...value, home });
    const { sql, envelope } = this.#services;
    for (const [name, value] of await rotatedFields(sql, config.id, (sealed, context) => envelope.open(sealed, context)))
      view.set(name, { value, home, literal: true });
    return view;
  }

  async #beneath(config: Config, above: ReadonlySet<string>): Promise<View> {
    const { sql } = this.#services;
    const view: View = new Map();
    for (const id of await parentIds(sql, config.id)) {
      const parent = await loadConfig(sql, id);
      if (parent) for (const [name, value] of await this.#view(parent, above)) view.set(name, value);
    }
    const root = config.isRoot ? undefined : await findRootConfig(sql, config.projectId, config.environment);
    if (!root) return view;
    const [home, rootPlace] = [placeOf(config), placeOf(root)];
    // A branch's own values are what the root's refer to.
    for (const [name, value] of await this.#view(root, above))
      view.set(name, keyOf(value.home) === keyOf(rootPlace) ? { ...value, home } : value);
    return view;
  }

  /** All values that these names need, by place and name. */
  async #closure(home: ConfigPlace, names: readonly string[]): Promise<Map<string, SeenValue>> {
    const found = new Map<string, SeenValue>();
    const looked = new Set<string>();
    const ahead = names.map((name) => ({ place: home, name }));
    for (let next = ahead.pop(); next; next = ahead.pop()) {
      const key = `${keyOf(next.place)}/${next.name}`;
      if (looked.has(key)) continue;
      looked.add(key);
      const value = await this.#find(next.place, next.name);
      if (!value) continue;
      found.set(key, value);
      for (const reference of referencesIn(value)) ahead.push(reference);
    }
    return found;
  }

  async #find(place: ConfigPlace, name: string): Promise<SeenValue | undefined> {
    const key = keyOf(place);
    const known = this.#places.get(key);
    if (!known && this.#places.size >= maxViews) return undefined;
    const found = known ?? this.#viewAt(place);
    this.#places.set(key, found);
    const there = await found;
    if (there && isManagedName(name)) return managedValue(there.config, name);
    return there?.view.get(name);
  }

  async #viewAt({ project, config }: ConfigPlace): Promise<{ config: Config; view: View } | undefined> {
    const found = await findConfig(this.#services.sql, project, config);
    return found && { config: found, view: await this.view(found) };
  }
}

/** Names that every download holds: where its values come from. */
export const managedNames = ["DOPPLER_PROJECT", "DOPPLER_ENVIRONMENT", "DOPPLER_CONFIG"] as const;

export function managedValue(config: Config, name: string): SeenValue {
  const [, what] = name.split("_");
  const value = what === "PROJECT" ? config.projectId : what === "ENVIRONMENT" ? config.environment : config.name;
  return { value, visibility: "unmasked", home: placeOf(config), literal: true };
}

/** A value that nobody wrote. */
export function literalValue(config: Config, value: string): ComputedValue {
  return { raw: { value, home: placeOf(config), literal: true }, computed: value, restricted: false };
}

const keyOf = ({ project, config }: ConfigPlace): string => `${project}/${config}`;

function referencesIn({ value, home, literal }: SeenValue): { place: ConfigPlace; name: string }[] {
  if (literal) return [];
  return findReferences(value).map(({ project = home.project, config = home.config, name }) => ({
    place: { project, config },
    name,
  }));
}

/** Those of the values that are restricted, or refer to one that is, however indirectly. */
function taintedOf(values: ReadonlyMap<string, SeenValue>): ReadonlySet<string> {
  const tainted = new Set<string>();
  const ahead = [...values].flatMap(([key, { visibility }]) => (visibility === "restricted" ? [key] : []));
  if (ahead.length === 0) return tainted;
  const referring = new Map<string, string[]>();
  for (const [key, value] of values)
    for (const { place, name } of referencesIn(value)) {
      const referred = `${keyOf(place)}/${name}`;
      const list = referring.get(referred);
      if (list) list.push(key);
      else referring.set(referred, [key]);
    }
  for (let next = ahead.pop(); next !== undefined; next = ahead.pop()) {
    if (tainted.has(next)) continue;
    tainted.add(next);
    ahead.push(...(referring.get(next) ?? []));
  }
  return tainted;
}
