// Reads YAML documents from standard input, writes a JSON array of them. YAML 1.1, as Kubernetes
// reads it: 0440 is octal. A key given twice is an error.
import { readFileSync } from "node:fs";
import { parseAllDocuments } from "yaml";

const documents = parseAllDocuments(readFileSync(0, "utf8"), { version: "1.1" });
for (const document of documents) {
  if (document.errors.length > 0) throw document.errors[0];
}
process.stdout.write(JSON.stringify(documents.map((document) => document.toJS()).filter(Boolean)));
