// The yardstick in Node: parse the call, one rule (latest haemoglobin below 100 g/L: one card),
// answer. Checks nothing and keeps nothing. The first line on standard output is the address.
import { createServer } from "node:http";

const haemoglobin = (call) =>
  (call.prefetch?.hb?.entry ?? [])
    .map((entry) => entry.resource)
    .sort((one, two) => two.effectiveDateTime.localeCompare(one.effectiveDateTime))[0]
    ?.valueQuantity?.value;

const server = createServer((request, response) => {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    const latest = haemoglobin(JSON.parse(Buffer.concat(pieces)));
    const cards =
      latest < 100
        ? [{ summary: `Hb ${latest} g/L`, indicator: "warning", source: { label: "node" } }]
        : [];
    const body = JSON.stringify({ cards });
    response.writeHead(200, {
      "Content-Type": "application/json",
      "Content-Length": Buffer.byteLength(body),
      "Access-Control-Allow-Origin": "*",
    });
    response.end(body);
  });
});
server.listen(0, "127.0.0.1", () =>
  console.log(`listening on http://127.0.0.1:${server.address().port}`),
);
