//! Reads a body, parses it to `serde_json::Value`, answers 200. Nothing else.

use actix_web::{App, HttpResponse, HttpServer, web};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

async fn parse(body: web::Bytes) -> HttpResponse {
    match serde_json::from_slice::<serde_json::Value>(&body) {
        Ok(value) => {
            std::hint::black_box(&value);
            HttpResponse::Ok().finish()
        }
        Err(_) => HttpResponse::BadRequest().finish(),
    }
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let server = HttpServer::new(|| {
        App::new()
            .app_data(web::PayloadConfig::new(8 << 20))
            .route("/fhir", web::post().to(parse))
    })
    .workers(1)
    .bind(("127.0.0.1", 0))?;
    for address in server.addrs() {
        println!("bare listening on http://{address}");
    }
    server.run().await
}
