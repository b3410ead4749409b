import { type Expression, isExpression, type Template, type TemplateResource, type Value } from "./model.ts";

/** A template of AWS CloudFormation. Source: CloudFormation user guide, "Template anatomy", "Intrinsic functions". */
export function cloudFormation({ about, parameters, resources, outputs }: Template): object {
  const conditional = Object.values(resources).flatMap(({ when }) => (when === undefined ? [] : [when]));
  return {
    AWSTemplateFormatVersion: "2010-09-09",
    Description: about,
    Parameters: mapped(parameters, ({ about: Description, default: Default, secret, optional }) => ({
      Type: "String",
      Description,
      ...(Default !== undefined && { Default }),
      ...(secret && { NoEcho: true }),
      ...(optional ? {} : { MinLength: 1 }),
    })),
    ...(conditional.length > 0 && {
      Conditions: Object.fromEntries(
        conditional.map((name) => [condition(name), { "Fn::Not": [{ "Fn::Equals": [{ Ref: name }, ""] }] }]),
      ),
    }),
    Resources: mapped(resources, resource),
    Outputs: mapped(outputs, ({ about: Description, value }) => ({ Description, Value: written(value) })),
  };
}

const condition = (parameterName: string): string => `Has${parameterName}`;

function resource({ type, properties, dependsOn, when }: TemplateResource): object {
  return {
    Type: type,
    ...(when !== undefined && { Condition: condition(when) }),
    ...(dependsOn && { DependsOn: dependsOn }),
    Properties: mapped(properties, written),
  };
}

function written(value: Value): unknown {
  if (typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(written);
  return isExpression(value) ? expression(value) : mapped(value as Readonly<Record<string, Value>>, written);
}

function expression(value: Expression): object {
  if (value.$ === "text")
    return { "Fn::Sub": value.parts.map((part) => (typeof part === "string" ? part : inText(part))).join("") };
  if (value.$ === "parameter") return { Ref: value.name };
  if (value.$ === "place") return { Ref: `AWS::${value.name}` };
  return value.name === "Ref" ? { Ref: value.of } : { "Fn::GetAtt": [value.of, value.name] };
}

function inText(value: Expression): string {
  if (value.$ === "text") return value.parts.map((part) => (typeof part === "string" ? part : inText(part))).join("");
  if (value.$ === "attribute") return value.name === "Ref" ? `\${${value.of}}` : `\${${value.of}.${value.name}}`;
  return value.$ === "place" ? `\${AWS::${value.name}}` : `\${${value.name}}`;
}

function mapped<V, R>(values: Readonly<Record<string, V>>, make: (value: V) => R): Record<string, R> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, make(value)]));
}
