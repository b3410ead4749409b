import { createHash } from "node:crypto";
import type { FastifyInstance } from "fastify";

const style = `body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:3rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
h1{font-size:1.4rem}label{display:block;margin:1rem 0 .3rem}input{font:inherit;width:100%;box-sizing:border-box;padding:.5rem}
button{font:inherit;padding:.5rem 1.2rem;margin:1rem .5rem 0 0}code{font-size:1.6rem;letter-spacing:.1em}
dt{color:#57606a}dd{margin:0 0 .4rem}[hidden]{display:none}#said{font-weight:600}
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}dt{color:#9198a1}input{color:inherit;background:#161b22}}`;

/** The token goes into a header of requests to this server and nowhere else: not into the address, nor any storage. */
const script = `"use strict";
const $=(id)=>document.getElementById(id);
const code=$("code");
code.value=decodeURIComponent(location.hash.slice(1)).slice(0,64);
const say=(text)=>{$("said").textContent=text};
async function ask(verb,more){
  const response=await fetch("/rekey/v1/cli-logins/"+verb,{method:"POST",credentials:"omit",
    headers:{"content-type":"application/json",authorization:"Bearer "+$("token").value.trim()},
    body:JSON.stringify({code:code.value.trim(),...more})});
  const answer=await response.json();
  if(!response.ok)throw new Error(answer.detail||answer.title||"the server refused");
  return answer;
}
async function attempt(work){
  say("");
  for(const button of document.querySelectorAll("button"))button.disabled=true;
  try{await work()}catch(error){say(error.message)}
  for(const button of document.querySelectorAll("button"))button.disabled=false;
}
$("look").addEventListener("submit",(event)=>{
  event.preventDefault();
  attempt(async()=>{
    const login=await ask("get");
    $("shown").textContent=login.code;
    $("host").textContent=login.hostname||"not said";
    $("system").textContent=[login.os,login.version].filter(Boolean).join(", ")||"not said";
    $("from").textContent=login.address;
    $("look").hidden=true;
    $("decide").hidden=false;
  });
});
const decide=(approve)=>attempt(async()=>{
  await ask("approve",{approve});
  $("token").value="";
  $("decide").hidden=true;
  say(approve?"Done. Go back to your command line; you can close this page.":"The login was denied.");
});
$("yes").addEventListener("click",()=>decide(true));
$("no").addEventListener("click",()=>decide(false));`;

const page = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Log in a command line - Rekey</title><style>${style}</style></head><body>
<h1>Log in a command line</h1>
<form id="look" autocomplete="off">
<label for="code">Code that your command line shows</label><input id="code" required maxlength="64" spellcheck="false">
<label for="token">A token of yours (dp.pt.…); it is sent to this server only, and not kept</label>
<input id="token" type="password" required autocomplete="off" spellcheck="false">
<button>Look</button></form>
<section id="decide" hidden>
<p>Does your command line show this very code? If not, or if you did not begin a login, deny it.</p>
<p><code id="shown"></code></p>
<dl><dt>It says that it runs on</dt><dd id="host"></dd><dt>System</dt><dd id="system"></dd><dt>It asked from</dt><dd id="from"></dd></dl>
<p>Whoever you let in can do all that you can.</p>
<button id="yes">Let it in</button><button id="no">Deny</button></section>
<p id="said" role="status"></p>
<noscript>This page needs JavaScript to send your token in a header.</noscript>
<script>${script}</script></body></html>
`;

const hashOf = (text: string): string => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

const headers = {
  "content-type": "text/html; charset=utf-8",
  "content-security-policy": [
    "default-src 'none'",
    `script-src ${hashOf(script)}`,
    `style-src ${hashOf(style)}`,
    "connect-src 'self'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
  ].join("; "),
  "cross-origin-opener-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "cache-control": "no-store",
};

/**
 * `GET /login`, where a person says yes to a command line that wants to act for them. The code stands behind `#`, which browsers
 * do not send; a page of somebody else cannot say yes, since the token is in a header that it does not know.
 */
export function loginPage(app: FastifyInstance): void {
  app.get("/login", (_request, reply) => reply.headers(headers).send(page));
}
