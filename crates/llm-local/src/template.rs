//! A model's own chat template: Jinja from a file that somebody else wrote, so it runs with limits.

use minijinja::{Environment, Error, ErrorKind, context};

use crate::conversation::Turn;

/// Instructions that one rendering may take; a hundred messages take some thousands.
const FUEL: u64 = 5_000_000;
/// What a template that calls itself may nest.
const DEPTH: usize = 50;
/// A template longer than this is no chat template.
const LONGEST: usize = 256 * 1024;

/// For models that have the usual control tokens and no template.
pub(crate) const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
                                 {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Turns a conversation into the one text that the model was trained on.
pub(crate) struct Template {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
}

impl Template {
    /// Compiles a template.
    pub(crate) fn new(source: &str, bos_token: &str, eos_token: &str) -> Result<Self, Error> {
        if source.len() > LONGEST {
            return Err(Error::new(ErrorKind::InvalidOperation, "the chat template is too long"));
        }
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH);
        // Templates are written for Python and call its methods, such as `strip`.
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |reason: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, reason))
        });
        environment.add_template_owned("chat", source.to_owned())?;
        Ok(Self { environment, bos_token: bos_token.to_owned(), eos_token: eos_token.to_owned() })
    }

    /// Renders a conversation up to where the model's answer begins.
    pub(crate) fn render(&self, turns: &[Turn]) -> Result<String, Error> {
        self.environment.get_template("chat")?.render(context! {
            messages => turns,
            add_generation_prompt => true,
            bos_token => self.bos_token,
            eos_token => self.eos_token,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(role: &'static str, content: &str) -> Turn {
        Turn { role, content: content.to_owned() }
    }

    #[test]
    fn a_conversation_is_rendered_with_the_answer_begun() {
        let template = Template::new(CHATML, "", "").unwrap();
        let text = template.render(&[turn("system", "Be brief."), turn("user", "Hi {{ 1 }} <b>&")]).unwrap();
        assert_eq!(
            text,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi {{ 1 }} <b>&<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn what_templates_of_the_hub_use_is_there() {
        let source = "{{- bos_token }}{% for m in messages %}\n    {% set c = m['content'].strip() | trim %}\n[{{ m.role.upper() }}] {{ c }}{{ eos_token }}\n{% endfor %}";
        let template = Template::new(source, "<s>", "</s>").unwrap();
        assert_eq!(template.render(&[turn("user", "  hi ")]).unwrap(), "<s>[USER] hi</s>\n");
    }

    #[test]
    fn a_template_that_refuses_or_never_ends_is_an_error() {
        let refuses = Template::new("{{ raise_exception('roles must alternate') }}", "", "").unwrap();
        assert!(refuses.render(&[]).unwrap_err().to_string().contains("roles must alternate"));
        let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
        let error = Template::new(endless, "", "").unwrap().render(&[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfFuel);
        assert!(Template::new("{% for %}", "", "").is_err());
    }
}
