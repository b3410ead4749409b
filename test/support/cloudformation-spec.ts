// Holds a CloudFormation template against AWS's published specification of its resources.
import { loadAwsServiceSpec } from "@aws-cdk/aws-service-spec";

type Spec = Awaited<ReturnType<typeof loadAwsServiceSpec>>;
interface SpecProperty {
  readonly required?: boolean;
  readonly deprecated?: string;
  readonly type: SpecType;
  readonly relationshipRefs?: readonly { readonly cloudFormationType: string; readonly propertyName: string }[];
}
type SpecType =
  | {
      readonly type: "string" | "integer" | "number" | "boolean" | "json" | "tag" | "date-time" | "null";
      readonly allowedValues?: readonly unknown[];
    }
  | { readonly type: "array" | "map"; readonly element: SpecType }
  | { readonly type: "union"; readonly types: readonly SpecType[] }
  | { readonly type: "ref"; readonly reference: { readonly $ref: string } };
interface SpecResource {
  readonly properties: Readonly<Record<string, SpecProperty>>;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly primaryIdentifier?: readonly string[];
  readonly cfnRefIdentifier?: readonly string[];
}

export interface CloudFormationTemplate {
  readonly Parameters: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly Conditions?: Readonly<Record<string, unknown>>;
  readonly Resources: Readonly<
    Record<
      string,
      {
        readonly Type: string;
        readonly Condition?: string;
        readonly DependsOn?: readonly string[];
        readonly Properties: Readonly<Record<string, unknown>>;
      }
    >
  >;
  readonly Outputs: Readonly<Record<string, { readonly Value: unknown }>>;
}

let loaded: Promise<Spec> | undefined;

/** Everything that is wrong with a template; empty: nothing. */
export async function templateProblems(template: CloudFormationTemplate): Promise<string[]> {
  loaded ??= loadAwsServiceSpec();
  return new Checker(await loaded, template).problems();
}

const pseudo = ["AWS::Partition", "AWS::Region", "AWS::AccountId"];

class Checker {
  readonly #spec: Spec;
  readonly #template: CloudFormationTemplate;
  readonly #problems: string[] = [];

  constructor(spec: Spec, template: CloudFormationTemplate) {
    this.#spec = spec;
    this.#template = template;
  }

  problems(): string[] {
    const { Resources, Outputs, Conditions = {} } = this.#template;
    for (const [name, { Type, Properties, DependsOn = [], Condition }] of Object.entries(Resources)) {
      const resource = this.#find(Type);
      if (!resource) {
        this.#problems.push(`${name}: ${Type} is no type`);
        continue;
      }
      this.#members(name, resource.properties, Properties);
      for (const other of DependsOn) if (!Object.hasOwn(Resources, other)) this.#problems.push(`${name}: depends on ${other}`);
      if (Condition !== undefined && !Object.hasOwn(Conditions, Condition))
        this.#problems.push(`${name}: condition ${Condition}`);
    }
    for (const [name, { Value }] of Object.entries(Outputs)) this.#value(`output ${name}`, { type: { type: "string" } }, Value);
    this.#references("conditions", Conditions);
    this.#cycles();
    return this.#problems;
  }

  #find(type: string): SpecResource | undefined {
    return this.#spec.lookup("resource", "cloudFormationType", "equals", type)[0] as unknown as SpecResource | undefined;
  }

  #members(path: string, properties: Readonly<Record<string, SpecProperty>>, given: Readonly<Record<string, unknown>>): void {
    for (const [name, { required }] of Object.entries(properties))
      if (required && !Object.hasOwn(given, name)) this.#problems.push(`${path}: ${name} is missing`);
    for (const [name, value] of Object.entries(given)) {
      const known = properties[name];
      if (!known) this.#problems.push(`${path}: ${name} is no property`);
      else if (known.deprecated) this.#problems.push(`${path}: ${name} is deprecated`);
      else this.#value(`${path}.${name}`, known, value);
    }
  }

  #value(path: string, { type, relationshipRefs }: SpecProperty, value: unknown): void {
    if (type.type === "union") {
      const fits = type.types.some((one) => {
        const before = this.#problems.length;
        this.#value(path, { type: one }, value);
        return this.#problems.splice(before).length === 0;
      });
      if (!fits) this.#problems.push(`${path}: fits none of its types`);
      else this.#references(path, value);
      return;
    }
    if (isIntrinsic(value)) {
      if (type.type !== "string") this.#problems.push(`${path}: text where ${type.type} is wanted`);
      this.#references(path, value);
      for (const { type: of, attribute } of this.#resourcesIn(value))
        if (relationshipRefs?.every((allowed) => allowed.cloudFormationType !== of || allowed.propertyName !== attribute))
          this.#problems.push(`${path}: takes no ${attribute} of ${of}`);
      return;
    }
    this.#literal(path, type, value);
  }

  #literal(path: string, type: Exclude<SpecType, { type: "union" }>, value: unknown): void {
    if (type.type === "array") {
      if (!Array.isArray(value)) this.#problems.push(`${path}: is no array`);
      else for (const [index, each] of value.entries()) this.#value(`${path}[${index}]`, { type: type.element }, each);
    } else if (type.type === "map") {
      for (const [name, each] of Object.entries(value as object)) this.#value(`${path}.${name}`, { type: type.element }, each);
    } else if (type.type === "ref") this.#definition(path, type.reference.$ref, value);
    else if (type.type === "json") this.#json(path, value);
    else this.#scalar(path, type, value);
  }

  #definition(path: string, reference: string, value: unknown): void {
    const definition = this.#spec.get("typeDefinition", reference as never) as unknown as SpecResource;
    if (typeof value !== "object" || value === null) this.#problems.push(`${path}: is no object`);
    else this.#members(path, definition.properties, value as Record<string, unknown>);
  }

  #json(path: string, value: unknown): void {
    if (typeof value !== "object") this.#problems.push(`${path}: is no JSON object`);
    this.#references(path, value);
  }

  #scalar(path: string, { type, allowedValues }: { type: string; allowedValues?: readonly unknown[] }, value: unknown): void {
    const fits = type === "integer" ? Number.isInteger(value) : typeof value === type;
    if (!fits) this.#problems.push(`${path}: ${JSON.stringify(value)} is no ${type}`);
    if (allowedValues && !allowedValues.includes(value)) this.#problems.push(`${path}: ${JSON.stringify(value)} is not allowed`);
  }

  /** Resources that a value refers to, with what of them. */
  #resourcesIn(value: unknown): { name: string; type: string; attribute: string }[] {
    return referencesIn(value).flatMap(({ name, attribute }) => {
      const resource = this.#template.Resources[name];
      if (!resource) return [];
      const spec = this.#find(resource.Type);
      const ref = spec?.cfnRefIdentifier ?? spec?.primaryIdentifier ?? [];
      return [{ name, type: resource.Type, attribute: attribute ?? ref.join("|") }];
    });
  }

  #references(path: string, value: unknown): void {
    const { Parameters, Resources } = this.#template;
    for (const { name, attribute } of referencesIn(value)) {
      const resource = Resources[name];
      const isKnown =
        attribute === undefined
          ? pseudo.includes(name) || Object.hasOwn(Parameters, name) || resource !== undefined
          : resource !== undefined && Object.hasOwn(this.#find(resource.Type)?.attributes ?? {}, attribute);
      if (!isKnown) this.#problems.push(`${path}: refers to ${name}${attribute === undefined ? "" : `.${attribute}`}`);
    }
  }

  #cycles(): void {
    const { Resources } = this.#template;
    const needs = new Map(
      Object.entries(Resources).map(([name, { Properties, DependsOn = [] }]) => [
        name,
        [...DependsOn, ...this.#resourcesIn(Properties).map((other) => other.name)],
      ]),
    );
    while (needs.size > 0) {
      const ready = [...needs].filter(([, others]) => others.every((other) => !needs.has(other)));
      if (ready.length === 0) {
        this.#problems.push(`each needs another first: ${[...needs.keys()].join(", ")}`);
        return;
      }
      for (const [name] of ready) needs.delete(name);
    }
  }
}

const isIntrinsic = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && Object.keys(value).some((key) => key === "Ref" || key.startsWith("Fn::"));

/** What `Ref`, `Fn::GetAtt` and `Fn::Sub` inside a value name. */
function referencesIn(value: unknown): { name: string; attribute?: string }[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]: [string, unknown]) => {
    if (key === "Ref") return [{ name: String(inner) }];
    if (key === "Fn::GetAtt") return [{ name: (inner as string[])[0] ?? "", attribute: (inner as string[])[1] ?? "" }];
    if (key !== "Fn::Sub") return referencesIn(inner);
    return [...String(inner).matchAll(/\$\{([^}]*)\}/g)].map(([, named = ""]) => {
      const [name = "", attribute] = named.startsWith("AWS::") ? [named] : named.split(".");
      return attribute === undefined ? { name } : { name, attribute };
    });
  });
}
