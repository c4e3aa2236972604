//! Chat models behind the Converse API of AWS Bedrock.
