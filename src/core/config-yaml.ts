import { type Document, Lexer, type LineCounter, type ParsedNode, parseDocument } from "yaml";

const maxTokens = 20_000;

/** Parsing takes far longer than splitting into tokens, so that many small ones would hold everybody up; twice a full config fits. */
export function isBoundedYaml(text: string, most = maxTokens): boolean {
  let tokens = 0;
  for (const _ of new Lexer().lex(text)) if (++tokens > most) return false;
  return true;
}

/** YAML 1.2 with its core schema alone; problems are in `errors`, and aliases are left alone, so that none can multiply. */
export function parseYaml(text: string, lineCounter?: LineCounter): Document.Parsed<ParsedNode> {
  return parseDocument(text, {
    ...(lineCounter && { lineCounter }),
    prettyErrors: false,
    // Silent ones let a second document pass.
    logLevel: "error",
    schema: "core",
    version: "1.2",
    uniqueKeys: false,
    resolveKnownTags: false,
  });
}
