//! Options that say what LlamaIndex's files are called, named as its own.

use crate::transfer::FileNames;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Names of files, if they are not LlamaIndex's")]
pub(super) struct NamesArgs {
    /// The document store [default: docstore.json]
    #[arg(long, value_name = "NAME")]
    docstore_fname: Option<String>,
    /// The index store [default: index_store.json]
    #[arg(long, value_name = "NAME")]
    index_store_fname: Option<String>,
    /// The graph store [default: graph_store.json]
    #[arg(long, value_name = "NAME")]
    graph_store_fname: Option<String>,
    /// The property graph store [default: property_graph_store.json]
    #[arg(long, value_name = "NAME")]
    pg_graph_store_fname: Option<String>,
    /// What follows a namespace and "__" for a vector store [default: vector_store.json]
    #[arg(long, value_name = "NAME")]
    vector_store_fname: Option<String>,
    /// The chat store [default: chat_store.json]
    #[arg(long, value_name = "NAME")]
    chat_store_fname: Option<String>,
    /// The ingestion cache [default: llama_cache]
    #[arg(long, value_name = "NAME")]
    cache_name: Option<String>,
}

impl NamesArgs {
    /// The names that were given, and LlamaIndex's for the others.
    pub(super) fn names(&self) -> FileNames {
        let mut names = FileNames::default();
        for (given, name) in [
            (&self.docstore_fname, &mut names.docstore),
            (&self.index_store_fname, &mut names.index_store),
            (&self.graph_store_fname, &mut names.graph_store),
            (&self.pg_graph_store_fname, &mut names.property_graph_store),
            (&self.vector_store_fname, &mut names.vector_store),
            (&self.chat_store_fname, &mut names.chat_store),
            (&self.cache_name, &mut names.cache),
        ] {
            if let Some(given) = given {
                name.clone_from(given);
            }
        }
        names
    }
}
