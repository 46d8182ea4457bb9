//! The files of the console, and the snippets of the documentation that it shows.

/// A file under `/console/`.
pub(crate) struct File {
    /// Its path after `/console/`.
    pub(crate) path: &'static str,
    /// What it contains.
    pub(crate) bytes: &'static [u8],
}

macro_rules! files {
    ($($path:literal),+ ; $($snippet:literal),+ $(,)?) => {
        /// Every file.
        pub(crate) const FILES: &[File] = &[
            $(File { path: $path, bytes: include_bytes!(concat!("../../../console/", $path)) },)+
            $(File {
                path: concat!("snippets/", $snippet),
                bytes: include_bytes!(concat!("../../../docs/snippets/", $snippet)),
            },)+
        ];
    };
}

files!(
    "api.js",
    "app.js",
    "charts.js",
    "icon.svg",
    "index.html",
    "lazy.js",
    "oidc.js",
    "page.css",
    "page.js",
    "pages/catalogue.js",
    "pages/deliveries.js",
    "pages/delivery.js",
    "pages/form.js",
    "pages/receive.js",
    "pages/recover.js",
    "pages/signature.js",
    "pages/statistics.js",
    "pages/test.js",
    "pages/webhook.js",
    "pages/webhooks.js",
    "router.js",
    "secret.js",
    "signature_check.js",
    "style.css",
    "texts.js",
    "ui.js",
    "vendor/htm.LICENSE",
    "vendor/oauth4webapi.LICENSE",
    "vendor/oauth4webapi.js",
    "vendor/preact-htm.js",
    "vendor/preact.LICENSE",
    "webhooks-console.js";
    "endpoint.js",
    "endpoint.py",
    "endpoint.rs",
    "verify.go",
    "verify.js",
    "verify.py",
    "verify.rs",
);
