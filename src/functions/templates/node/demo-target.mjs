// Stands in for your target while you try things out: one user, whose password anybody may change who knows it.
// It forgets everything when it ends, and begins with the password that stands in demo-secret.json.
import { timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { json } from "node:stream/consumers";

const first = JSON.parse(readFileSync(new URL("demo-secret.json", import.meta.url), "utf8"));
const { port } = new URL(first.url);
let password = first.password;

const server = createServer(async (request, response) => {
  const given = Buffer.from(request.headers.authorization ?? "");
  const wanted = Buffer.from(`Basic ${Buffer.from(`${first.username}:${password}`).toString("base64")}`);
  if (given.length !== wanted.length || !timingSafeEqual(given, wanted)) response.writeHead(401);
  else if (request.method === "GET" && request.url === "/login") response.writeHead(200);
  else if (request.method === "PUT" && request.url === "/password") {
    password = (await json(request)).password;
    response.writeHead(204);
  } else response.writeHead(404);
  response.end();
});
server.listen(Number(port), "127.0.0.1", () => console.log(`the demo target listens on ${first.url}`));
