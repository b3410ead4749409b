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

/**
 * The text with every secret in it replaced, also where it is written as JSON, as part of an address, in base64 or as Python
 * prints it. `isPart`: it may begin or end in the middle of one.
 */
export function cutValues(text: string, secrets: readonly string[], isPart = false): string {
  const forms = new Set(secrets.filter(({ length }) => length >= leastChars).flatMap(writtenForms));
  const longestFirst = [...forms].sort((a, b) => b.length - a.length);
  const whole = isPart ? withoutParts(text, longestFirst) : text;
  return longestFirst.reduce((cleaned, secret) => cleaned.replaceAll(secret, mark), whole);
}

/** Without what at its ends may be the rest of a secret. */
function withoutParts(text: string, forms: readonly string[]): string {
  const from = Math.max(0, ...forms.map((form) => overlap(form, text)));
  const until = text.length - Math.max(0, ...forms.map((form) => overlap(text, form)));
  return text.slice(from, Math.max(from, until));
}

/** How many characters the one ends with that the other begins with, short of the whole of either. */
function overlap(ending: string, beginning: string): number {
  const most = Math.min(ending.length, beginning.length) - 1;
  for (let chars = most; chars > 0; chars--) if (ending.endsWith(beginning.slice(0, chars))) return chars;
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
