/** Of what a function of ours and its caller say to each other; raised when an older one would misunderstand. */
export const lambdaProtocol = 1;
