"use strict";
// The try-it form: posts what is in the box to $assess-cytopenia and shows what a clinician would read.
const form = document.getElementById("try");
const result = document.getElementById("result");

const parameter = (answer, name) => (answer.parameter || []).filter((each) => each.name === name);

const readable = (answer) => {
  if (answer.resourceType === "OperationOutcome") {
    return answer.issue
      .map((issue) => {
        const place = issue.expression ? ` (${issue.expression.join(", ")})` : "";
        return `${issue.severity}: ${issue.details ? issue.details.text : issue.code}${place}`;
      })
      .join("\n");
  }
  const lines = [];
  for (const name of ["result", "output"]) {
    for (const each of parameter(answer, name)) lines.push(`${name}: ${each.valueCode}`);
  }
  for (const each of parameter(answer, "text")) lines.push("", each.valueString);
  for (const each of parameter(answer, "report")) {
    if (each.resource && each.resource.conclusion) lines.push("", each.resource.conclusion);
  }
  for (const each of parameter(answer, "outcome")) {
    if (each.resource) lines.push("", readable(each.resource));
  }
  return lines.join("\n");
};

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  result.hidden = false;
  result.textContent = "…";
  try {
    const response = await fetch("/fhir/$assess-cytopenia", {
      method: "POST",
      headers: { "Content-Type": "application/fhir+json", Accept: "application/fhir+json" },
      body: form.elements.bundle.value,
    });
    const answer = await response.json();
    result.textContent = event.submitter && event.submitter.value === "raw"
      ? JSON.stringify(answer, null, 2)
      : readable(answer);
  } catch (error) {
    result.textContent = String(error);
  }
});
