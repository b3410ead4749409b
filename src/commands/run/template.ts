import { CommandError } from "../command-error.ts";

/**
 * A text with `{{NAME}}` (or `{{.NAME}}`) for a secret's value, and `{{json NAME}}` (or `{{tojson .NAME}}`) for it as a JSON
 * string. What was put in is not looked through again.
 * @throws CommandError for usage that names what is not there or not understood.
 */
export function renderTemplate(template: string, secrets: ReadonlyMap<string, string>): string {
  return template.replaceAll(/\{\{-?\s*(.*?)\s*-?\}\}/gs, (_all, inside: string) => {
    const [, json, name = ""] = /^(json\s+|tojson\s+)?\.?([A-Za-z_][A-Za-z0-9_]*)$/.exec(inside) ?? [];
    if (name === "")
      throw new CommandError(2, `the template has {{${inside.slice(0, 60)}}}, but {{NAME}} and {{json NAME}} are all there is`);
    const value = secrets.get(name);
    if (value === undefined) throw new CommandError(1, `the template names ${name}, but there is no such secret`);
    return json === undefined ? value : JSON.stringify(value);
  });
}
