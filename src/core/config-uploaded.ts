import { ServiceError } from "./error.ts";

/** One secret of a file, and the line it begins at, from 1. */
export interface UploadedSecret {
  readonly name: string;
  readonly value: string;
  readonly line: number;
}

/** A file of secrets that can't be read: `why` is a sentence that holds nothing of the file. */
export function unreadable(line: number, why: string): ServiceError {
  return new ServiceError("ValidationException", `Line ${line} of the file: ${why}`);
}
