/** A value that is known only where the template is applied. */
export type Expression =
  | { readonly $: "attribute"; readonly of: string; readonly name: string }
  | { readonly $: "parameter"; readonly name: string }
  /** What AWS knows of the place: its partition (`aws`, `aws-cn`), region and account number. */
  | { readonly $: "place"; readonly name: "Partition" | "Region" | "AccountId" }
  | { readonly $: "text"; readonly parts: readonly (string | Expression)[] };

export type Value = string | number | boolean | Expression | readonly Value[] | { readonly [name: string]: Value };

export interface Parameter {
  readonly about: string;
  readonly default?: string;
  /** Never shown by AWS once it is given. */
  readonly secret?: true;
  /** May be left empty. */
  readonly optional?: true;
}

/** A resource by CloudFormation's type and names of properties; the other printer translates them. */
export interface TemplateResource {
  readonly type: string;
  readonly properties: { readonly [name: string]: Value };
  readonly dependsOn?: readonly string[];
  /** Made only when this parameter is not empty. */
  readonly when?: string;
}

interface Output {
  readonly about: string;
  readonly value: Value;
}

/** Infrastructure before it is written in a format; by logical name, in the order in which it is written. */
export interface Template {
  readonly about: string;
  /** What to do, a line each; written as comments where the format has them. */
  readonly steps: readonly string[];
  readonly parameters: Readonly<Record<string, Parameter>>;
  readonly resources: Readonly<Record<string, TemplateResource>>;
  readonly outputs: Readonly<Record<string, Output>>;
}

export const attribute = (of: string, name: string): Expression => ({ $: "attribute", of, name });
export const parameter = (name: string): Expression => ({ $: "parameter", name });
export const partition: Expression = { $: "place", name: "Partition" };
export const region: Expression = { $: "place", name: "Region" };
export const accountId: Expression = { $: "place", name: "AccountId" };

/** Text with values inside. */
export const text = (strings: TemplateStringsArray, ...values: readonly (string | Expression)[]): Expression => ({
  $: "text",
  parts: strings.flatMap((piece, index) => [piece, values[index] ?? ""]).filter((part) => part !== ""),
});

export function isExpression(value: Value): value is Expression {
  return typeof value === "object" && "$" in value;
}
