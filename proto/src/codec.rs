//! Messages in a call's body.

use prost::Message;
use std::marker::PhantomData;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};

/// Sends messages of one type and receives those of another.
#[derive(Clone, Copy, Debug)]
pub struct ProtoCodec<Sent, Received>(PhantomData<fn(Sent) -> Received>);

impl<Sent, Received> Default for ProtoCodec<Sent, Received> {
    fn default() -> Self {
        ProtoCodec(PhantomData)
    }
}

impl<Sent, Received> Codec for ProtoCodec<Sent, Received>
where
    Sent: Message + Send + 'static,
    Received: Message + Default + Send + 'static,
{
    type Encode = Sent;
    type Decode = Received;
    type Encoder = Half<Sent>;
    type Decoder = Half<Received>;

    fn encoder(&mut self) -> Half<Sent> {
        Half(PhantomData)
    }

    fn decoder(&mut self) -> Half<Received> {
        Half(PhantomData)
    }
}

/// One direction.
#[derive(Debug)]
pub struct Half<T>(PhantomData<fn() -> T>);

impl<T: Message> Encoder for Half<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(into).map_err(|why| Status::new(Code::Internal, why.to_string()))
    }
}

impl<T: Message + Default> Decoder for Half<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        T::decode(from).map(Some).map_err(|why| Status::new(Code::Internal, why.to_string()))
    }
}
