/** Keys of AWS's secret structures that hold nothing secret: without names of servers and users a log would tell nothing. */
const openKeys: ReadonlySet<string> = new Set(
  "engine host port username usernames dbname dbInstanceIdentifier dbClusterIdentifier masterarn superuser ssl url region".split(
    " ",
  ),
);
/** Shorter ones stand everywhere by chance. */
const leastChars = 4;
const mark = "[secret]";

/** The texts that would tell a secret's value: the whole, and each text or number in its JSON, but for names of servers and users. */
export function secretTexts(value: string): string[] {
  const found = new Set([value, value.trim()]);
  try {
    collect(JSON.parse(value), found);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error; // it is no JSON: the whole of it is the secret
  }
  return [...found].filter((text) => text.length >= leastChars);
}

function collect(value: unknown, found: Set<string>): void {
  if (typeof value === "string") {
    found.add(value);
    for (const line of value.split("\n")) found.add(line.trim()); // keys in PEM are often written line by line
  } else if (typeof value === "number") found.add(String(value));
  else if (typeof value === "object" && value !== null)
    for (const [key, part] of Object.entries(value)) if (!openKeys.has(key)) collect(part, found);
}

/** The text with every secret in it replaced, also where it is written as JSON, as part of an address, in base64 or as Python prints it. */
export function cutValues(text: string, secrets: Iterable<string>): string {
  const written = new Set([...secrets].filter((secret) => secret.length >= leastChars).flatMap(writtenForms));
  const longestFirst = [...written].sort((a, b) => b.length - a.length);
  return longestFirst.reduce((cleaned, secret) => cleaned.replaceAll(secret, mark), text);
}

/** The same, of a text that may have been cut in the middle of a secret. */
export function cutValuesAtEnd(text: string, secrets: readonly string[]): string {
  const forms = secrets.filter((secret) => secret.length >= leastChars).flatMap(writtenForms);
  const begun = forms.map((form) => beginningAtEnd(text, form));
  return cutValues(text.slice(0, text.length - Math.max(0, ...begun)), secrets);
}

/** How many characters of the form's beginning the text ends with. */
function beginningAtEnd(text: string, form: string): number {
  for (let chars = Math.min(form.length - 1, text.length); chars > 0; chars--)
    if (text.endsWith(form.slice(0, chars))) return chars;
  return 0;
}

function writtenForms(secret: string): string[] {
  const json = JSON.stringify(secret).slice(1, -1);
  const python = secret.replaceAll("\\", "\\\\").replaceAll("'", "\\'");
  const forms = [
    secret,
    json,
    JSON.stringify(json).slice(1, -1),
    python,
    Buffer.from(secret).toString("base64").replace(/=+$/, ""),
  ];
  return secret.isWellFormed() ? [...forms, encodeURIComponent(secret)] : forms;
}
