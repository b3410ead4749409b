#!/usr/bin/env node
// Nothing is imported before the version is known: an older Node.js ends at the first import that it does not have, in words of its own.
const oldest = 24; // as package.json says under `engines`
const { node } = process.versions;

if (Number(node.split(".")[0]) >= oldest) await import("./command-line.ts");
else {
  process.stderr.write(
    `rekey: needs Node.js ${oldest} or later, and this is ${node}: install a newer one from https://nodejs.org\n`,
  );
  process.exitCode = 1;
}
