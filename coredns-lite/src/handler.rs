//! From a request to a response: who answers it, and how that is put on the wire.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use hickory_proto::op::{Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use crate::answer::{Answer, Question, answer};
use crate::forward::{Forwarder, Reply};
use crate::metrics::{Exchange, Metrics};
use crate::zone::Zone;

/// The largest UDP response that does not risk being cut in pieces on the way (DNS flag day 2020).
const MAX_PAYLOAD: u16 = 1_232;
/// The longest chain of names that stand for names.
const MAX_ALIASES: usize = 8;

/// Answers requests.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a resolver has none")]
pub struct Handler {
    /// What is known of the cluster.
    pub zone: Arc<ArcSwap<Zone>>,
    /// Who is asked about the rest.
    pub forwarder: Forwarder,
    /// What is counted.
    pub metrics: Metrics,
}

#[derive(Default)]
struct Response {
    code: ResponseCode,
    ours: bool,
    records: Vec<Record>,
    soa: Option<Record>,
    additionals: Vec<Record>,
}

impl Response {
    fn refusal(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }

    fn add(&mut self, reply: Reply) {
        self.code = reply.code;
        self.records.extend(reply.records);
        self.soa = reply.soa;
    }
}

impl Handler {
    async fn respond(&self, request: &Request) -> Response {
        if request.metadata.message_type != MessageType::Query || request.metadata.op_code != OpCode::Query {
            return Response::refusal(ResponseCode::NotImp);
        }
        let Ok(info) = request.request_info() else { return Response::refusal(ResponseCode::FormErr) };
        if info.query.query_class() != DNSClass::IN {
            return Response::refusal(ResponseCode::Refused);
        }
        let kind = info.query.query_type();
        if matches!(kind, RecordType::AXFR | RecordType::IXFR) {
            return Response::refusal(ResponseCode::Refused);
        }
        let mut response = self.resolve(Name::from(info.query.name().clone()), kind).await;
        // Whoever takes the first should not always take the same.
        if response.ours && response.records.len() > 1 && response.records.iter().all(|r| r.record_type() == kind) {
            let turn = usize::from(request.metadata.id) % response.records.len();
            response.records.rotate_left(turn);
        }
        response
    }

    async fn resolve(&self, mut name: Name, kind: RecordType) -> Response {
        let mut response = Response::default();
        for step in 0..MAX_ALIASES {
            // A guard of the snapshot must not be held while waiting.
            let found = answer(&Question { name: &name, kind }, &self.zone.load());
            response.ours |= step == 0 && found != Answer::Elsewhere;
            match found {
                Answer::Elsewhere => {
                    response.add(self.forwarder.ask(&name, kind).await);
                    return response;
                }
                Answer::NotYet => return Response { ours: true, ..Response::refusal(ResponseCode::ServFail) },
                Answer::Found { records, additionals } => {
                    response.records.extend(records);
                    response.additionals = additionals;
                    return response;
                }
                Answer::NoData(soa) => {
                    response.soa = Some(soa);
                    return response;
                }
                Answer::NoName(soa) => {
                    response.code = ResponseCode::NXDomain;
                    response.soa = Some(soa);
                    return response;
                }
                Answer::Alias(record, to) => {
                    response.records.push(record);
                    name = to;
                }
            }
        }
        response.code = ResponseCode::ServFail;
        response
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut responses: R) -> ResponseInfo {
        let started = Instant::now();
        let mut edns = Edns::new();
        let response = match &request.edns {
            Some(asked) if asked.version() > 0 => Response::refusal(ResponseCode::BADVERS),
            _ => self.respond(request).await,
        };
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = response.ours;
        metadata.recursion_available = true;
        metadata.response_code = response.code;
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(asked) = &request.edns {
            edns.set_max_payload(asked.max_payload().clamp(512, MAX_PAYLOAD));
            edns.set_rcode_high(response.code.high());
            builder.edns(&edns);
        }
        let message = builder.build(metadata, &response.records, [], &response.soa, &response.additionals);
        self.metrics.answered(&Exchange {
            protocol: request.protocol(),
            ipv6: request.src().is_ipv6(),
            kind: request.request_info().map_or(RecordType::ZERO, |info| info.query.query_type()),
            ours: response.ours,
            code: response.code,
            took: started.elapsed(),
        });
        match responses.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(client = %request.src(), %error, "answering");
                let metadata = Metadata::new(request.metadata.id, MessageType::Response, OpCode::Query);
                ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
            }
        }
    }
}
