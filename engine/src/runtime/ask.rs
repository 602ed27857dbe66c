//! Requests from outside: admission, how it finds a home, and how long it is waited for.

use crate::clock::millis;
use crate::ids::QueryIndex;
use crate::plan::NodeId;
use crate::request::ask::{
    Ask, AtLeast, Format, Numbered, Outcome, QueryError, QueryRequest, Reply, RequestTypes,
};
use crate::request::codec::{QueryDecl, with_shape};
use crate::request::hub::{QueryLimits, RequestHub};
use crate::request::waits::Wait;
use crate::runtime::Runtime;
use crate::runtime::inbox::ToWorker;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use tidemill_state::codec::{self, trace};
use tidemill_state::{Txid, shape, type_names};
use tokio::sync::oneshot;

impl Runtime {
    /// The queries that can be asked.
    #[must_use]
    pub fn queries(&self) -> Vec<QueryDecl> {
        self.hub.queries.iter().map(|query| query.decl().clone()).collect()
    }

    /// Returns the limits of requests.
    #[must_use]
    pub fn query_limits(&self) -> &QueryLimits {
        &self.hub.limits
    }

    /// Asks a query, and waits for its answer: from one committed batch, whose number it carries.
    /// Dropping the future gives the request up.
    ///
    /// # Errors
    /// Every way in which there is no answer, see [`QueryError`].
    pub async fn ask(&self, request: QueryRequest<'_>) -> Outcome {
        let began = Instant::now();
        let outcome = self.ask_in_time(&request).await;
        // Names that nobody has declared are without number: no series for them.
        if !matches!(outcome, Err(QueryError::NoSuchQuery { .. })) {
            self.timings.asked(request.name, began.elapsed(), &outcome);
        }
        outcome
    }

    async fn ask_in_time(&self, request: &QueryRequest<'_>) -> Outcome {
        let time_out = self.time_out_of(request.time_out);
        let asked = async {
            self.wait_until(request.at_least).await?;
            let (reply, answer) = oneshot::channel();
            self.send(request, time_out, Box::new(reply))?;
            answer.await.unwrap_or_else(|_| Err(QueryError::gone()))
        };
        match tokio::time::timeout(time_out, asked).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.timed_out(request.name, time_out)),
        }
    }

    /// Waits until what is committed is at least this. A request that waits here is not let in yet,
    /// and holds nothing.
    ///
    /// # Errors
    /// [`QueryError::BadArguments`]: there is no such source. [`QueryError::TooMany`]: as many wait already as [`QueryLimits::waiting`] says.
    pub async fn wait_until(&self, at_least: &[AtLeast<'_>]) -> Result<(), QueryError> {
        let mut counted = None;
        for wanted in at_least {
            if self.is_committed(wanted)? {
                continue;
            }
            if counted.is_none() {
                counted = Some(self.hub.let_wait()?);
            }
            let wait = self.hub.waits.begin(wanted);
            // It may have been committed between the look and the beginning.
            if !self.is_committed(wanted)? {
                self.until_due(wait).await?;
            }
        }
        Ok(())
    }

    async fn until_due(&self, mut wait: Wait<'_>) -> Result<(), QueryError> {
        let Some(_lead) = wait.due_or_leads().await else { return Ok(()) };
        let mut shown = self.shown.subscribe();
        loop {
            let next = |source: &str, partition: &str| self.next_offset(source, partition);
            self.hub.waits.wake_due(self.committed(), next);
            if wait.is_due() {
                return Ok(());
            }
            shown.changed().await.map_err(|_| QueryError::gone())?;
        }
    }

    /// As [`Runtime::ask`], for a thread that may sleep: arguments and result have types. A query
    /// that ends in an ungrouped aggregate answers with its value, any other with a vector.
    ///
    /// # Errors
    /// As [`Runtime::ask`]; [`QueryError::WrongResult`] if the answer is of another type,
    /// [`QueryError::Failed`] if there is no value.
    pub fn ask_typed<R: DeserializeOwned>(
        &self,
        name: &str,
        arguments: &impl Serialize,
    ) -> Result<(Txid, R), QueryError> {
        let unwritten = |why: String| QueryError::BadArguments(why);
        let mut encoded = Vec::new();
        codec::encode(arguments, &mut encoded).map_err(|why| unwritten(why.to_string()))?;
        let written = trace::of(arguments).map_err(unwritten)?;
        let argument_type = with_shape(&type_names::of_val(arguments), &written.text);
        let (result, result_type) = (shape::known::<R>(), type_names::of::<R>());
        let types = RequestTypes {
            arguments: written.trace,
            argument_type: &argument_type,
            result: &result,
            result_type: &result_type,
        };
        let request = QueryRequest {
            name,
            arguments: &encoded,
            format: Format::Bincode,
            time_out: None,
            at_least: &[],
            types: Some(types),
        };
        let (to, answers) = crossbeam_channel::bounded(1);
        let time_out = self.time_out_of(None);
        self.send(&request, time_out, Box::new(Numbered::new(0, to)))?;
        let (_, outcome) = answers
            .recv_timeout(time_out + Duration::from_secs(1))
            .map_err(|_| self.timed_out(name, time_out))?;
        let answer = outcome?;
        let one = self.hub.query(self.hub.find(name)?).decl().one;
        let wrong = |why: String| {
            QueryError::WrongResult(format!("the answer of \"{name}\" is of another type: {why}"))
        };
        let value = if one {
            let value: Option<R> =
                codec::decode(&answer.bytes).map_err(|why| wrong(why.to_string()))?;
            value.ok_or_else(|| {
                QueryError::Failed(format!("\"{name}\" gives no value for these arguments"))
            })?
        } else {
            codec::decode(&answer.bytes).map_err(|why| wrong(why.to_string()))?
        };
        Ok((answer.txid, value))
    }

    /// Many requests to one query at once, from this process: see [`Pipeline`].
    ///
    /// # Errors
    /// [`QueryError::NoSuchQuery`]; [`QueryError::Failed`] if its results cannot be read from
    /// bincode.
    pub fn pipeline(self: &Arc<Self>, name: &str) -> Result<Pipeline, QueryError> {
        let query = self.hub.find(name)?;
        self.hub.query(query).answers_in(Format::Bincode)?;
        let (to, answers) = crossbeam_channel::unbounded();
        Ok(Pipeline { runtime: Arc::clone(self), query, to, answers, asked: 0 })
    }

    fn time_out_of(&self, asked: Option<Duration>) -> Duration {
        asked.map_or(self.hub.limits.time_out, |asked| asked.min(self.hub.limits.time_out))
    }

    fn send(
        &self,
        request: &QueryRequest<'_>,
        time_out: Duration,
        reply: Box<dyn Reply>,
    ) -> Result<(), QueryError> {
        let query = self.hub.find(request.name)?;
        self.hub.query(query).answers_in(request.format)?;
        let arguments = self.hub.query(query).arguments(request)?;
        self.send_to(query, arguments, request.format, time_out, reply)
    }

    fn send_to(
        &self,
        query: QueryIndex,
        arguments: Box<dyn Any + Send>,
        format: Format,
        time_out: Duration,
        reply: Box<dyn Reply>,
    ) -> Result<(), QueryError> {
        let RequestHub { limits, next, .. } = &*self.hub;
        let admitted = match self.hub.admit() {
            Ok(admitted) => admitted,
            Err(why) => {
                reply.withdraw();
                return Err(why);
            }
        };
        let begun = Instant::now();
        let ask = Ask {
            admitted,
            query,
            arguments,
            format,
            begun,
            deadline: begun + time_out,
            most_bytes: limits.answer_bytes,
            reply,
        };
        // All homes in turn.
        let home = next.fetch_add(1, SeqCst) % self.facts.workers;
        self.inboxes.send(home, ToWorker::Ask(ask)).map_err(|_| {
            QueryError::Unavailable(
                "the workers are starting or stopping: send it again in a moment".into(),
            )
        })
    }

    /// Its worker does not even give a request up: the closure that holds it is named in the log.
    fn timed_out(&self, query: &str, time_out: Duration) -> QueryError {
        let held_up_by = self.held_up_by();
        if let Some(what) = &held_up_by {
            tracing::warn!(
                query,
                "a query's closure does not return, and holds its worker up: {what}"
            );
        }
        QueryError::TimedOut { after_ms: millis(time_out), held_up_by }
    }

    /// Returns the possible cause of a delay of requests: the user's closures that have not
    /// returned for long.
    pub(crate) fn held_up_by(&self) -> Option<String> {
        self.in_words(self.hub.stuck.named())
    }

    /// The user's closures that workers have been in for at least so long.
    pub(crate) fn inside_for(&self, at_least: Duration) -> Option<String> {
        self.in_words(self.hub.stuck.inside_for(at_least))
    }

    fn in_words(&self, named: Vec<(usize, NodeId, Duration)>) -> Option<String> {
        let named = named.into_iter().map(|(worker, node, since)| {
            let operator = self.plan().describe(node);
            format!("worker {worker} has been in {operator} for {:.1} s", since.as_secs_f64())
        });
        let named: Vec<String> = named.collect();
        (!named.is_empty()).then(|| named.join(", "))
    }
}

/// Many requests to one query under way at once. Answers come in the order in which they are ready,
/// each with its request's number.
pub struct Pipeline {
    runtime: Arc<Runtime>,
    query: QueryIndex,
    to: crossbeam_channel::Sender<(u64, Outcome)>,
    answers: crossbeam_channel::Receiver<(u64, Outcome)>,
    asked: u64,
}

impl Pipeline {
    /// Asks. Gives the request's number, from 0.
    ///
    /// # Errors
    /// [`QueryError::BadArguments`] if they are not of the query's type; [`QueryError::TooMany`],
    /// [`QueryError::Unavailable`].
    pub fn ask<A: Send + 'static>(&mut self, arguments: A) -> Result<u64, QueryError> {
        let number = self.asked;
        let arguments: Box<dyn Any + Send> = Box::new(arguments);
        let query = self.runtime.hub.query(self.query);
        if !query.takes(&*arguments) {
            let (QueryDecl { name, arguments, .. }, asked) = (query.decl(), type_names::of::<A>());
            return Err(QueryError::BadArguments(format!(
                "query \"{name}\" takes {arguments}, not {asked}"
            )));
        }
        let reply = Box::new(Numbered::new(number, self.to.clone()));
        let time_out = self.runtime.hub.limits.time_out;
        self.runtime.send_to(self.query, arguments, Format::Bincode, time_out, reply)?;
        self.asked += 1;
        Ok(number)
    }

    /// The next answer, if there is one already.
    #[must_use]
    pub fn try_next_answer(&self) -> Option<(u64, Outcome)> {
        self.answers.try_recv().ok()
    }

    /// The next answer, in bincode as [`Format::Bincode`] says: waits for it. `None` if none comes
    /// within the time that a request may take.
    pub fn next_answer(&self) -> Option<(u64, Outcome)> {
        self.answers.recv_timeout(self.runtime.hub.limits.time_out + Duration::from_secs(1)).ok()
    }
}
