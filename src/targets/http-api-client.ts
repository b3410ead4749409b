import { RotatorError } from "../core/error.ts";
import { readAuthorities } from "./authorities.ts";
import { isChange, readAnswer } from "./http-api-answer.ts";
import type { AskedApi, HttpApiDeclaration, RequestDeclaration } from "./http-api-declaration.ts";
import { type FilledRequest, fillRequest, labelOf } from "./http-api-request.ts";
import type { RequestName } from "./http-api-rules.ts";
import { send } from "./http-api-send.ts";
import type { TemplateValues } from "./http-api-template.ts";
import type { RotatorTools } from "./target.ts";

const notInRandom = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ ";

/** What stands for placeholders in every request of a call. */
export function commonValues({
  rotationId,
  generatePassword,
}: Pick<RotatorTools, "rotationId" | "generatePassword">): Pick<TemplateValues, "rotationId" | "random"> {
  return {
    rotationId,
    random: (length) => generatePassword({ length: Math.max(length, 16), exclude: notInRandom }).slice(0, length),
  };
}

/** The API that a declaration describes. */
export class HttpApi<Declaration extends AskedApi = HttpApiDeclaration> {
  readonly declaration: Declaration;

  constructor(declaration: Declaration) {
    this.declaration = declaration;
  }

  /** The declared request with these values. @throws RotatorError `invalid` when the API has none of that name */
  fill(name: RequestName, values: TemplateValues): { request: RequestDeclaration; filled: FilledRequest } {
    const request: RequestDeclaration | undefined = this.declaration[name];
    if (!request) throw new RotatorError("invalid", `the declaration has no ${name}`);
    return { request, filled: fillRequest(this.declaration, name, request, values) };
  }

  /** The answer's JSON, once it is as declared; `undefined` where it is no JSON. @throws RotatorError */
  async ask(name: RequestName, values: TemplateValues, tools: Pick<RotatorTools, "deadlineAt">): Promise<unknown> {
    const { request, filled } = this.fill(name, values);
    return this.exchange(name, { request, filled, values }, tools);
  }

  /** @throws RotatorError */
  async exchange(
    name: RequestName,
    { request, filled, values }: { request: RequestDeclaration; filled: FilledRequest; values: TemplateValues },
    { deadlineAt }: Pick<RotatorTools, "deadlineAt">,
  ): Promise<unknown> {
    const { caFile, timeoutSeconds, allowAddresses } = this.declaration;
    const label = labelOf(name, request);
    const ca = caFile === undefined ? undefined : await readAuthorities(caFile, "caFile");
    const timeoutMs = Math.min(timeoutSeconds * 1000, deadlineAt - Date.now());
    const answer = await send(filled, { label, changing: isChange(name), timeoutMs, ca, allowAddresses });
    return readAnswer(name, label, request, answer, values);
  }
}
