// A sign-up with Node's own modules: trigger, status, webhook.

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const { SENDCODE_URL, SENDCODE_TOKEN, SENDCODE_WEBHOOK_SECRET, PORT } = process.env;
const outcomes = new Map(); // a real service has a database

// Ask for a code, and try again with the same key where nobody answered: it is never sent twice.
async function sendCode(phone, key) {
  const body = JSON.stringify({ phone, expires_in: 600 });
  const headers = {
    Authorization: `Bearer ${SENDCODE_TOKEN}`,
    "Content-Type": "application/json",
    "Idempotency-Key": key,
  };
  for (let pause = 200; ; pause *= 2) {
    try {
      const answer = await fetch(`${SENDCODE_URL}/v1/codes`, { method: "POST", headers, body });
      if (answer.status < 500) return { status: answer.status, ...(await answer.json()) };
    } catch (error) {
      if (pause > 5000) throw error;
    }
    if (pause > 5000) throw new Error("sendcode cannot be reached");
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

// Return the payload of a webhook in the Standard Webhooks format, or null.
function verified(body, headers) {
  const id = headers["webhook-id"];
  const at = headers["webhook-timestamp"];
  if (!id || Math.abs(Date.now() / 1000 - Number(at)) > 300) return null;
  const secret = Buffer.from(SENDCODE_WEBHOOK_SECRET.replace(/^whsec_/, ""), "base64");
  const expected = createHmac("sha256", secret).update(`${id}.${at}.`).update(body).digest();
  const given = (headers["webhook-signature"] ?? "")
    .split(" ")
    .filter((part) => part.startsWith("v1,"))
    .map((part) => Buffer.from(part.slice(3), "base64"));
  const isOurs = given.some((each) => each.length === expected.length && timingSafeEqual(each, expected));
  return isOurs ? JSON.parse(body) : null;
}

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  const answer = (status, document) => {
    response.writeHead(status, { "Content-Type": "application/json" });
    response.end(document && JSON.stringify(document));
  };
  try {
    if (request.url === "/signup") {
      const { user, phone } = JSON.parse(body);
      const job = await sendCode(phone, `signup-${user}`);
      answer(job.status < 300 ? 202 : job.status, job);
    } else if (request.url.startsWith("/codes/")) {
      answer(200, { state: outcomes.get(`signup-${request.url.slice(7)}`) ?? "on its way" });
    } else if (request.url === "/webhooks/sendcode") {
      const payload = verified(body, request.headers);
      if (payload?.type === "code.ended") outcomes.set(payload.data.key, payload.data.state);
      answer(payload ? 204 : 400);
    } else {
      answer(404);
    }
  } catch (error) {
    answer(502, { error: String(error) });
  }
}).listen(Number(PORT), "127.0.0.1");
