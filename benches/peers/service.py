"""The yardstick in Python: the same rule as service.mjs in HealthChain 0.16.1, one worker of
uvicorn. The first line on standard output is the address."""

import socket

import uvicorn
from healthchain.gateway import CDSHooksService, HealthChainAPI
from healthchain.models import Card, CDSRequest, CDSResponse

cds = CDSHooksService()


@cds.hook("patient-view", id="haemoglobin")
def haemoglobin(request: CDSRequest) -> CDSResponse:
    entries = (request.prefetch or {}).get("hb", {}).get("entry", [])
    counts = sorted(
        (entry["resource"] for entry in entries),
        key=lambda count: count["effectiveDateTime"],
        reverse=True,
    )
    latest = counts[0]["valueQuantity"]["value"] if counts else None
    if latest is None or latest >= 100:
        return CDSResponse(cards=[])
    return CDSResponse(
        cards=[
            Card(
                summary=f"Hb {latest} g/L",
                indicator="warning",
                source={"label": "healthchain"},
                detail=f"Hb {latest} g/L",
            )
        ]
    )


app = HealthChainAPI()
app.register_service(cds)

if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(app, log_level="error")
    uvicorn.Server(config).run(sockets=[listener])
