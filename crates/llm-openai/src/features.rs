//! What a server may not know: each is left out of a request, or said otherwise, once the server complained of it.

use llm::ChatRequest;

/// A part of a request that not every server, or not every model, knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    /// Usage at the end of a stream.
    UsageInStream,
    /// Answers that match a schema.
    OutputSchema,
    /// The output limit by its old name, which most servers know; new models of OpenAI want the new one.
    OldLimitName,
    /// How much a model thinks.
    Effort,
    /// Randomness, which models that think do not let be chosen.
    Temperature,
    /// A model's thoughts in a form that can be given back.
    SealedReasoning,
}

/// The features that a server complained of.
#[derive(Debug, Clone, Default)]
pub(crate) struct LeftOut(Vec<Feature>);

impl LeftOut {
    /// Tells whether a feature may be used.
    pub(crate) fn keeps(&self, feature: Feature) -> bool {
        !self.0.contains(&feature)
    }

    /// Leaves out the first of the features that the complaint names, if it is one that the request made use of; tells
    /// whether there was any.
    pub(crate) fn learn(&mut self, complaint: &str, known: &[(Feature, &str)], request: &ChatRequest) -> bool {
        let named = known.iter().find(|(feature, mark)| {
            let used = match feature {
                Feature::UsageInStream | Feature::SealedReasoning => true,
                Feature::OutputSchema => request.output_schema.is_some(),
                Feature::OldLimitName => request.max_output_tokens.is_some(),
                Feature::Effort => request.effort.is_some(),
                // A value out of range is the agent's mistake and has to be told.
                Feature::Temperature => request.temperature.is_some() && complaint.contains("support"),
            };
            used && self.keeps(*feature) && complaint.contains(mark)
        });
        self.0.extend(named.map(|(feature, _)| *feature));
        named.is_some()
    }
}
