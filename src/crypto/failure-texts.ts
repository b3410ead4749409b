/** Source: AWS API reference, "DecryptionFailure" and "EncryptionFailure". What went wrong in detail is for the log: `cause`. */
export const decryptionFailureText = "Secrets Manager can't decrypt the protected secret text using the provided KMS key.";
export const encryptionFailureText =
  "Secrets Manager can't encrypt the protected secret text using the provided KMS key. Check that the KMS key is available, " +
  "enabled, and not in an invalid state. For more information, see How Key State Affects Use of a Customer Master Key.";
